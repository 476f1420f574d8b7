/* Windows in short, as reports/short.py has them written, read many at once; columns.py says what becomes of them.
 *
 * A line is sound only if it is one to the letter: whatever else JSON allows is left to those who read it slowly. Every
 * line is a bytes object, which ends with a zero that is none of its characters. No comparison here goes past a
 * character that it has not found to be another one than zero, so none goes past the end.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MOST_DIGITS 18 /* fewer than 2^63 has */
#define MOST_DIGITS_OF_SECONDS 11

typedef struct {
    const char *name;
    Py_ssize_t name_length, n_counts;
    int64_t seq, harness_ns, train_iter, env_step, like;
    double t_s;
} Window;

static int
text(const char **at, const char *wanted)
{
    size_t length = strlen(wanted);
    if (strncmp(*at, wanted, length))
        return 0;
    *at += length;
    return 1;
}

static Py_ssize_t
digits(const char **at, int64_t *value)
{
    const char *begin = *at;
    uint64_t sum = 0;
    for (; **at >= '0' && **at <= '9'; ++*at)
        sum = sum * 10 + (uint64_t)(**at - '0'); /* of too many digits this is nonsense, which nobody looks at */
    *value = (int64_t)sum;
    return *at - begin;
}

static int
number(const char **at, int64_t *value)
{
    int begins_with_0 = **at == '0';
    Py_ssize_t n = digits(at, value);
    return n >= 1 && n <= MOST_DIGITS && (n == 1 || !begins_with_0);
}

static int
progress(const char **at, int64_t *value)
{
    if (text(at, "-1")) {
        *value = -1;
        return 1;
    }
    return number(at, value);
}

static int
name_of(const char **at, Window *window)
{
    window->name = *at;
    for (; **at != '"'; ++*at) {
        if (**at < ' ' || **at > '~' || **at == '\\')
            return 0;
    }
    window->name_length = *at - window->name;
    return 1;
}

/* Read one line. Returns 1 if it is sound, and like the first one if there is one; -1 with an exception.
 *
 * Counts have room for as many as the first has; without a first one they are counted, no more. */
static int
window_of(PyObject *raw, Window *window, const Window *first, int64_t *counts)
{
    const char *at = PyBytes_AS_STRING(raw);
    int64_t ignored;
    if (!text(&at, "{\"type\":\"window\",\"t_s\":"))
        return 0;
    const char *t_s = at;
    if (!number(&at, &ignored) || at - t_s > MOST_DIGITS_OF_SECONDS || !text(&at, ".") || !digits(&at, &ignored))
        return 0;
    const char *after_t_s = at;
    if (!text(&at, ",\"cache\":\"") || !name_of(&at, window))
        return 0;
    if (first && (window->name_length != first->name_length ||
                  memcmp(window->name, first->name, (size_t)first->name_length)))
        return 0;
    if (!text(&at, "\",\"seq\":") || !number(&at, &window->seq))
        return 0;
    if (!text(&at, ",\"harness_ns\":") || !number(&at, &window->harness_ns))
        return 0;
    if (!text(&at, ",\"train_iter\":") || !progress(&at, &window->train_iter))
        return 0;
    if (!text(&at, ",\"env_step\":") || !progress(&at, &window->env_step))
        return 0;
    if (!text(&at, ",\"like\":") || !number(&at, &window->like) || !text(&at, ",\"counts\":["))
        return 0;
    if (first && window->like != first->like)
        return 0;
    window->n_counts = 0;
    do {
        if (first && window->n_counts == first->n_counts)
            return 0;
        if (!number(&at, first ? &counts[window->n_counts] : &ignored))
            return 0;
        window->n_counts++;
    } while (text(&at, ","));
    if (first && window->n_counts < first->n_counts)
        return 0;
    if (!text(&at, "],\"rank\":") || !number(&at, &ignored) || !text(&at, "}\n"))
        return 0;
    if (at != PyBytes_AS_STRING(raw) + PyBytes_GET_SIZE(raw))
        return 0;
    char *end;
    window->t_s = PyOS_string_to_double(t_s, &end, NULL);
    if (window->t_s == -1.0 && PyErr_Occurred())
        return -1;
    return end == after_t_s;
}

static int
append(PyObject *lists, Py_ssize_t which, PyObject *item)
{
    int failed = !item || PyList_Append(PyTuple_GET_ITEM(lists, which), item);
    Py_XDECREF(item);
    return failed;
}

PyDoc_STRVAR(read_doc,
"read(raws, places)\n--\n\n"
"Read windows in short: the first sound one in these places of a list of lines, and all others there of the same pair,\n"
"that mean the same full one and have as many counts.\n\n"
"Returns:\n"
"    None if there is none. Else its name, like, how many counts it has, all counts as 64-bit\n"
"    integers, window by window, and lists of places, seq, t_s, harness_ns, train_iter, env_step, places left.");

enum { PLACES, SEQ, T_S, HARNESS_NS, TRAIN_ITER, ENV_STEP, LEFT, N_LISTS };

static PyObject *
read_windows(PyObject *module, PyObject *args)
{
    PyObject *raws, *places, *lists = NULL, *result = NULL;
    int64_t *counts = NULL;
    Py_ssize_t n_taken = 0, room = 0;
    Window first = {0}, window = {0};
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &raws, &PyList_Type, &places))
        return NULL;
    if (!(lists = PyTuple_New(N_LISTS)))
        return NULL;
    for (int i = 0; i < N_LISTS; i++) {
        PyObject *list = PyList_New(0);
        if (!list)
            goto done;
        PyTuple_SET_ITEM(lists, i, list);
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(places); i++) {
        PyObject *place = PyList_GET_ITEM(places, i);
        PyObject *raw = PyList_GetItem(raws, PyLong_AsSsize_t(place)); /* borrowed; of -1, too, an exception */
        if (!raw)
            goto done;
        if (!PyBytes_Check(raw)) {
            PyErr_SetString(PyExc_TypeError, "a line is bytes");
            goto done;
        }
        int sound = n_taken ? 1 : window_of(raw, &first, NULL, NULL);
        if (sound > 0 && (n_taken + 1) * first.n_counts > room) {
            room = 2 * (n_taken + 1) * first.n_counts;
            int64_t *more = PyMem_Realloc(counts, (size_t)room * sizeof *counts);
            if (!more) {
                PyErr_NoMemory();
                goto done;
            }
            counts = more;
        }
        if (sound > 0)
            sound = window_of(raw, &window, &first, counts + n_taken * first.n_counts);
        if (sound < 0)
            goto done;
        if (!sound) {
            if (append(lists, LEFT, Py_NewRef(place)))
                goto done;
            continue;
        }
        n_taken++;
        if (append(lists, PLACES, Py_NewRef(place)) || append(lists, SEQ, PyLong_FromLongLong(window.seq)) ||
            append(lists, T_S, PyFloat_FromDouble(window.t_s)) ||
            append(lists, HARNESS_NS, PyLong_FromLongLong(window.harness_ns)) ||
            append(lists, TRAIN_ITER, PyLong_FromLongLong(window.train_iter)) ||
            append(lists, ENV_STEP, PyLong_FromLongLong(window.env_step)))
            goto done;
    }
    if (n_taken)
        result = Py_BuildValue("s#Lny#O", first.name, first.name_length, (long long)first.like, first.n_counts,
                               (const char *)counts, n_taken * first.n_counts * (Py_ssize_t)sizeof *counts, lists);
    else
        result = Py_NewRef(Py_None);
done:
    PyMem_Free(counts);
    Py_XDECREF(lists);
    return result;
}

PyDoc_STRVAR(sums_doc,
"sums(counts, n)\n--\n\n"
"Add up rows of n 64-bit integers that are not negative, column by column; OverflowError if 64 bits are too few.");

static PyObject *
sums(PyObject *module, PyObject *args)
{
    Py_buffer buffer;
    Py_ssize_t n;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "y*n", &buffer, &n))
        return NULL;
    int64_t *sum = n > 0 ? PyMem_Calloc((size_t)n, sizeof *sum) : NULL;
    if (!sum || buffer.len % (n * (Py_ssize_t)sizeof *sum)) {
        PyErr_SetString(PyExc_ValueError, "no rows of such a length");
        goto done;
    }
    const char *at = buffer.buf;
    for (Py_ssize_t rows = buffer.len / (n * (Py_ssize_t)sizeof *sum); rows; rows--) {
        for (Py_ssize_t i = 0; i < n; i++, at += sizeof *sum) {
            int64_t count;
            memcpy(&count, at, sizeof count);
            if (count < 0 || sum[i] > INT64_MAX - count) {
                PyErr_SetString(PyExc_OverflowError, "more than 64 bits");
                goto done;
            }
            sum[i] += count;
        }
    }
    if ((result = PyList_New(n))) {
        for (Py_ssize_t i = 0; i < n; i++) {
            PyObject *one = PyLong_FromLongLong(sum[i]);
            if (!one) {
                Py_CLEAR(result);
                break;
            }
            PyList_SET_ITEM(result, i, one);
        }
    }
done:
    PyMem_Free(sum);
    PyBuffer_Release(&buffer);
    return result;
}

static PyMethodDef methods[] = {
    {"read", read_windows, METH_VARARGS, read_doc},
    {"sums", sums, METH_VARARGS, sums_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_windows",
    .m_doc = "Windows in short, many at once; see reports/columns.py.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__windows(void)
{
    return PyModule_Create(&definition);
}
