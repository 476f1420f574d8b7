/* How far two runs of floating-point numbers are apart, in one pass; compare.py says what is counted and why.
 *
 * Blocks that stay in the processor's first cache are screened without branches, so that a compiler can use vectors; only
 * a block that may hold a new greatest distance, a NaN or an infinity is gone through number by number.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 512
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define VECTORS
#endif

typedef struct {
    Py_ssize_t mismatched, nan[2], inf[2], at_abs, at_rel;
    double greatest_abs, greatest_rel;
} Found;

#define DEFINE(REAL, BITS, MAGNITUDE, INFINITE, SLACK)                                                                   \
    static void exactly_##REAL(const REAL *a, const REAL *b, Py_ssize_t n, Py_ssize_t start, Found *found)             \
    {                                                                                                                  \
        for (Py_ssize_t i = 0; i < n; i++) {                                                                           \
            BITS p, q;                                                                                                 \
            memcpy(&p, a + i, sizeof p);                                                                               \
            memcpy(&q, b + i, sizeof q);                                                                               \
            if (p == q)                                                                                                \
                continue;                                                                                              \
            double distance = fabs((double)a[i] - (double)b[i]);                                                       \
            if (!isfinite(distance))                                                                                   \
                continue;                                                                                              \
            if (distance > found->greatest_abs) {                                                                      \
                found->greatest_abs = distance;                                                                        \
                found->at_abs = start + i;                                                                             \
            }                                                                                                          \
            double relative = distance / fabs((double)a[i]);                                                           \
            if (isfinite(relative) && relative > found->greatest_rel) {                                                \
                found->greatest_rel = relative;                                                                        \
                found->at_rel = start + i;                                                                             \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void special_##REAL(const REAL *x, Py_ssize_t n, Py_ssize_t *nan, Py_ssize_t *inf)                          \
    {                                                                                                                  \
        for (Py_ssize_t i = 0; i < n; i++) {                                                                           \
            *nan += isnan(x[i]) != 0;                                                                                  \
            *inf += isinf(x[i]) != 0;                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    VECTORS static void block_##REAL(const REAL *a, const REAL *b, Py_ssize_t n, Py_ssize_t start, Found *found)       \
    {                                                                                                                  \
        BITS mismatched = 0, top_a = 0, top_b = 0;                                                                     \
        const char *p_at = (const char *)a, *q_at = (const char *)b;                                                   \
        for (Py_ssize_t i = 0; i < n; i++) {                                                                           \
            BITS p, q;                                                                                                 \
            memcpy(&p, p_at + i * sizeof p, sizeof p);                                                                 \
            memcpy(&q, q_at + i * sizeof q, sizeof q);                                                                 \
            mismatched += p != q;                                                                                      \
            p &= MAGNITUDE;                                                                                            \
            q &= MAGNITUDE;                                                                                            \
            top_a = p > top_a ? p : top_a;                                                                             \
            top_b = q > top_b ? q : top_b;                                                                             \
        }                                                                                                              \
        int plain = top_a < INFINITE && top_b < INFINITE;                                                              \
        if (!plain) {                                                                                                  \
            special_##REAL(a, n, &found->nan[0], &found->inf[0]);                                                      \
            special_##REAL(b, n, &found->nan[1], &found->inf[1]);                                                      \
        }                                                                                                              \
        if (!mismatched)                                                                                               \
            return;                                                                                                    \
        found->mismatched += (Py_ssize_t)mismatched;                                                                   \
        /* A little below the greatest so far: what is screened here rounds otherwise than what is recorded. */        \
        REAL least_abs = (REAL)(found->greatest_abs * (1 - SLACK)), least_rel = (REAL)(found->greatest_rel * (1 - SLACK));\
        BITS record = (BITS)!plain;                                                                                    \
        for (Py_ssize_t i = 0; i < n; i++) {                                                                           \
            REAL distance = a[i] - b[i], size = a[i];                                                                  \
            distance = distance < 0 ? -distance : distance;                                                            \
            size = size < 0 ? -size : size;                                                                            \
            record |= (BITS)((distance > least_abs) | (distance > least_rel * size));                                  \
        }                                                                                                              \
        if (record)                                                                                                    \
            exactly_##REAL(a, b, n, start, found);                                                                     \
    }                                                                                                                  \
    static void runs_##REAL(const char *a, const char *b, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t n, Found *found)\
    {                                                                                                                  \
        Py_ssize_t count = n / (Py_ssize_t)sizeof(REAL);                                                               \
        for (Py_ssize_t row = 0; row < rows; row++) {                                                                  \
            const REAL *x = (const REAL *)(a + row * step), *y = (const REAL *)(b + row * step);                       \
            for (Py_ssize_t i = 0; i < count; i += BLOCK)                                                              \
                block_##REAL(x + i, y + i, count - i < BLOCK ? count - i : BLOCK, row * count + i, found);             \
        }                                                                                                              \
    }

DEFINE(float, uint32_t, 0x7fffffffu, 0x7f800000u, 1e-6)
DEFINE(double, uint64_t, 0x7fffffffffffffffull, 0x7ff0000000000000ull, 1e-12)

PyDoc_STRVAR(difference_doc,
"difference(control, candidate, rows, step, n, itemsize)\n--\n\n"
"Compare runs of single (itemsize 4) or double (8) precision at two addresses.\n\n"
"Returns:\n"
"    Numbers whose bits differ; NaNs of control and candidate; infinities of both; greatest finite absolute distance of\n"
"    those that differ and where; greatest finite relative one and where. Distances are -1 where there is none.");

static PyObject *
difference(PyObject *module, PyObject *args)
{
    unsigned long long a, b;
    Py_ssize_t rows, step, n, itemsize;
    if (!PyArg_ParseTuple(args, "KKnnnn", &a, &b, &rows, &step, &n, &itemsize))
        return NULL;
    if (rows < 0 || n < 0 || (rows > 1 && step < n) || (itemsize != 4 && itemsize != 8) || n % itemsize) {
        PyErr_SetString(PyExc_ValueError, "impossible runs");
        return NULL;
    }
    Found found = {.greatest_abs = -1, .greatest_rel = -1};
    const char *p = (const char *)(uintptr_t)a, *q = (const char *)(uintptr_t)b;
    if (itemsize == 4)
        runs_float(p, q, rows, step, n, &found);
    else
        runs_double(p, q, rows, step, n, &found);
    return Py_BuildValue("nnnnndndn", found.mismatched, found.nan[0], found.nan[1], found.inf[0], found.inf[1],
                         found.greatest_abs, found.at_abs, found.greatest_rel, found.at_rel);
}

static PyMethodDef methods[] = {
    {"difference", difference, METH_VARARGS, difference_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_difference",
    .m_doc = "Distances between runs of floating-point numbers; see validator/entries/compare.py.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__difference(void)
{
    return PyModule_Create(&definition);
}
