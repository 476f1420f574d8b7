/* The byte work of plain entries; plain_python.py says what each function means and does the same without a compiler.
 *
 * An entry is a handful of buffers. In Python every step over them is a call; here one call sees to all of them. Nothing
 * is held between calls, and addresses are only followed where memory.py has just made sure that tensors lie there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

static PyObject *s_k_cache, *s_v_cache, *s_cache, *s_size, *s_data_ptr;
static PyObject *s_shape, *s_dtype, *s_layout, *s_is_cpu, *s_is_contiguous, *s_is_neg;

/* Runs of valid bytes: `rows` of them in every buffer, `step` bytes apart, `n` bytes long. */
typedef struct {
    Py_ssize_t rows, step, n;
} Runs;

static int
address_at(PyObject *addresses, Py_ssize_t index, char **found)
{
    *found = PyLong_AsVoidPtr(PyTuple_GET_ITEM(addresses, index));
    return *found == NULL && PyErr_Occurred() ? -1 : 0;
}

static int
runs_of(PyObject *const *args, Runs *runs)
{
    runs->rows = PyLong_AsSsize_t(args[0]);
    runs->step = PyLong_AsSsize_t(args[1]);
    runs->n = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return -1;
    if (runs->rows < 0 || runs->n < 0 || (runs->rows > 1 && runs->step < runs->n)) {
        PyErr_SetString(PyExc_ValueError, "impossible runs");
        return -1;
    }
    return 0;
}

static int
both_tuples(PyObject *one, PyObject *other)
{
    if (PyTuple_CheckExact(one) && PyTuple_CheckExact(other) && PyTuple_GET_SIZE(one) == PyTuple_GET_SIZE(other))
        return 1;
    PyErr_SetString(PyExc_ValueError, "expected two tuples of as many addresses");
    return 0;
}

/* Return a new reference to the Cache of a buffer, K then V layer by layer; NULL with an error set. A layer may be of any
 * class, so that asking it may run any code: nothing is borrowed meanwhile, and the number of layers may have changed. */
static PyObject *
cache_at(PyObject *layers, Py_ssize_t index)
{
    if (index / 2 >= PySequence_Fast_GET_SIZE(layers)) {
        PyErr_SetString(PyExc_AttributeError, "layers changed while they were looked at");
        return NULL;
    }
    PyObject *layer = Py_NewRef(PySequence_Fast_GET_ITEM(layers, index / 2));
    PyObject *cache = PyObject_GetAttr(layer, index % 2 ? s_v_cache : s_k_cache);
    Py_DECREF(layer);
    return cache;
}

/* Look at one Cache: 1 if its buffer is this tensor at this address, 0 if not, -1 on an error. */
static int
lies(PyObject *cache, PyObject *tensor, PyObject *address)
{
    PyObject *buffer = PyObject_GetAttr(cache, s_cache);
    if (buffer == NULL)
        return -1;
    int same = buffer == tensor;
    if (same) {
        PyObject *now = PyObject_CallMethodNoArgs(buffer, s_data_ptr);
        same = now == NULL ? -1 : PyObject_RichCompareBool(now, address, Py_EQ);
        Py_XDECREF(now);
    }
    Py_DECREF(buffer);
    return same;
}

/* Return the length of one Cache, -1 if it is no plain whole number of at least 0, -2 on an error. */
static Py_ssize_t
length_of(PyObject *cache)
{
    PyObject *size = PyObject_GetAttr(cache, s_size);
    if (size == NULL)
        return -2;
    Py_ssize_t found = -1;
    if (PyLong_CheckExact(size)) {
        found = PyLong_AsSsize_t(size);
        if (found == -1)
            PyErr_Clear();
        if (found < 0)
            found = -1;
    }
    Py_DECREF(size);
    return found;
}

/* Whether a question to a tensor, asked of an attribute or of a method, is answered by True: 1, 0, -1 on an error. */
static int
is_true(PyObject *answer)
{
    Py_XDECREF(answer);
    return answer == NULL ? -1 : answer == Py_True;
}

static int
is_same(PyObject *answer, PyObject *wanted)
{
    Py_XDECREF(answer);
    return answer == NULL ? -1 : answer == wanted;
}

static int
is_equal(PyObject *answer, PyObject *wanted)
{
    int equal = answer == NULL ? -1 : answer == wanted ? 1 : PyObject_RichCompareBool(answer, wanted, Py_EQ);
    Py_XDECREF(answer);
    return equal;
}

/* What the buffers of an entry have in common, and where they are; new references, or NULL. */
typedef struct {
    PyObject *shape, *dtype, *tensors, *addresses;
    Py_ssize_t length;
} Found;

static void
forget(Found *found)
{
    Py_XDECREF(found->shape);
    Py_XDECREF(found->dtype);
    Py_XDECREF(found->tensors);
    Py_XDECREF(found->addresses);
}

/* Look over the buffers of an entry: 1 if they are plain, of one structure and (unless it is of no interest) length, and,
 * where a shape and a dtype are given, of these; 0 if not, -1 on an error. Forget what was found in any case. */
static int
look_over(PyObject *sequence, PyObject *type, PyObject *strided, int any_size, Found *found)
{
    PyObject *layers = PySequence_Fast(sequence, "layers must be a sequence");
    if (layers == NULL)
        return -1;
    Py_ssize_t count = 2 * PySequence_Fast_GET_SIZE(layers);
    PyObject *tensors = found->tensors = PyTuple_New(count);
    PyObject *addresses = found->addresses = PyTuple_New(count);
    int fits = tensors == NULL || addresses == NULL ? -1 : count > 0;
    for (Py_ssize_t index = 0; fits > 0 && index < count; index++) {
        PyObject *cache = cache_at(layers, index);
        PyObject *tensor = cache == NULL ? NULL : PyObject_GetAttr(cache, s_cache);
        fits = tensor == NULL ? -1 : Py_IS_TYPE(tensor, (PyTypeObject *)type);
        if (fits > 0 && !any_size) {
            Py_ssize_t size = length_of(cache);
            fits = size == -2 ? -1 : size >= 0 && (index == 0 || size == found->length);
            found->length = size;
        }
        Py_XDECREF(cache);
        if (fits > 0 && found->shape == NULL) {
            found->shape = PyObject_GetAttr(tensor, s_shape);
            found->dtype = found->shape == NULL ? NULL : PyObject_GetAttr(tensor, s_dtype);
            fits = found->dtype == NULL ? -1 : 1;
        }
        else if (fits > 0) {
            fits = is_equal(PyObject_GetAttr(tensor, s_shape), found->shape);
            if (fits > 0)
                fits = is_same(PyObject_GetAttr(tensor, s_dtype), found->dtype);
        }
        if (fits > 0)
            fits = is_true(PyObject_GetAttr(tensor, s_is_cpu));
        if (fits > 0)
            fits = is_same(PyObject_GetAttr(tensor, s_layout), strided);
        if (fits > 0)
            fits = is_true(PyObject_CallMethodNoArgs(tensor, s_is_contiguous));
        if (fits > 0) {
            fits = is_true(PyObject_CallMethodNoArgs(tensor, s_is_neg));
            fits = fits < 0 ? fits : !fits;
        }
        if (fits > 0) {
            PyObject *address = PyObject_CallMethodNoArgs(tensor, s_data_ptr);
            fits = address == NULL ? -1 : 1;
            if (address != NULL) {
                PyTuple_SET_ITEM(tensors, index, Py_NewRef(tensor));
                PyTuple_SET_ITEM(addresses, index, address);
            }
        }
        Py_XDECREF(tensor);
    }
    Py_DECREF(layers);
    return fits;
}

PyDoc_STRVAR(survey_doc,
"survey(layers, tensor_type, strided, any_size)\n--\n\n"
"Look over the buffers of an entry: are they dense, in host memory, of one structure and length?\n\n"
"Returns:\n    ``(shape, dtype, length, tensors, addresses)``, or None.");

static PyObject *
survey(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Found found = {NULL};
    PyObject *result = NULL;
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "survey takes layers, the class of tensors, torch.strided and any_size");
        return NULL;
    }
    int fits = look_over(args[0], args[1], args[2], args[3] == Py_True, &found);
    if (fits > 0)
        result = Py_BuildValue("(OOnOO)", found.shape, found.dtype, found.length, found.tensors, found.addresses);
    else if (fits == 0)
        result = Py_NewRef(Py_None);
    forget(&found);
    return result;
}

PyDoc_STRVAR(placed_doc,
"placed(layers, tensors, addresses)\n--\n\n"
"Tell whether the buffers of an entry still lie there, and how much of them is valid.\n\n"
"Returns:\n    -1 if they lie elsewhere; -2 if they lie there but are not of one length; else that length.");

static PyObject *
placed(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || !both_tuples(args[1], args[2])) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "placed takes layers, tensors and addresses");
        return NULL;
    }
    PyObject *layers = PySequence_Fast(args[0], "layers must be a sequence");
    if (layers == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(layers), length = -1, result = -1;
    if (2 * count != PyTuple_GET_SIZE(args[1]) || !count)
        goto done;
    int even = 1;
    for (Py_ssize_t index = 0; index < 2 * count; index++) {
        PyObject *cache = cache_at(layers, index);
        if (cache == NULL)
            goto failed;
        int here = lies(cache, PyTuple_GET_ITEM(args[1], index), PyTuple_GET_ITEM(args[2], index));
        Py_ssize_t size = here > 0 ? length_of(cache) : 0;
        Py_DECREF(cache);
        if (here < 0 || size == -2)
            goto failed;
        if (!here)
            goto done;
        if (index == 0)
            length = size;
        even &= size >= 0 && size == length;
    }
    result = even ? length : -2;
done:
    Py_DECREF(layers);
    return PyLong_FromSsize_t(result);
failed:
    Py_DECREF(layers);
    return NULL;
}

static int
copied(PyObject *to, PyObject *source, const Runs *runs)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(to); index++) {
        char *p, *q;
        if (address_at(to, index, &p) < 0 || address_at(source, index, &q) < 0)
            return -1;
        for (Py_ssize_t row = 0; row < runs->rows; row++)
            memmove(p + row * runs->step, q + row * runs->step, runs->n);
    }
    return 0;
}

/* Fill an entry with the runs at other addresses and give it that length, if it lies there: 1, 0, -1 on an error. */
static int
refilled(PyObject *sequence, PyObject *tensors, PyObject *addresses, PyObject *source, const Runs *runs, PyObject *size)
{
    PyObject *layers = PySequence_Fast(sequence, "layers must be a sequence");
    if (layers == NULL)
        return -1;
    Py_ssize_t count = 2 * PySequence_Fast_GET_SIZE(layers);
    int here = count && count == PyTuple_GET_SIZE(tensors);
    for (Py_ssize_t index = 0; here > 0 && index < count; index++) {
        PyObject *cache = cache_at(layers, index);
        here = cache == NULL ? -1 : lies(cache, PyTuple_GET_ITEM(tensors, index), PyTuple_GET_ITEM(addresses, index));
        Py_XDECREF(cache);
    }
    for (Py_ssize_t index = 0; here > 0 && index < count; index++) {
        PyObject *cache = cache_at(layers, index);
        here = cache == NULL || PyObject_SetAttr(cache, s_size, size) < 0 ? -1 : 1;
        Py_XDECREF(cache);
    }
    Py_DECREF(layers);
    return here > 0 && copied(addresses, source, runs) < 0 ? -1 : here;
}

PyDoc_STRVAR(refill_doc,
"refill(layers, tensors, addresses, source, rows, step, n, size)\n--\n\n"
"Fill an entry that lies there with the runs at other addresses, and give it that length; False if it lies elsewhere.");

static PyObject *
refill(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Runs runs;
    if (nargs != 8) {
        PyErr_SetString(PyExc_TypeError, "refill takes layers, tensors, addresses, source, rows, step, n and a length");
        return NULL;
    }
    if (!both_tuples(args[1], args[2]) || !both_tuples(args[2], args[3]) || runs_of(args + 4, &runs) < 0)
        return NULL;
    int here = refilled(args[0], args[1], args[2], args[3], &runs, args[7]);
    return here < 0 ? NULL : PyBool_FromLong(here);
}

PyDoc_STRVAR(restage_doc,
"restage(layers, tensor_type, strided, structure, staged)\n--\n\n"
"Copy a plain entry of a structure to a staged entry that lies where it lay, and give that its length.\n\n"
"Returns:\n    ``(length, tensors, addresses)`` of the source; None, and nothing is copied, if either is not so.");

static PyObject *
restage(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *shape, *dtype, *layers, *tensors, *addresses;
    Py_ssize_t rows, tokens, token_nbytes;
    if (nargs != 5) {
        PyErr_SetString(PyExc_TypeError, "restage takes layers, the class of tensors, torch.strided, a structure and "
                                         "a staged entry");
        return NULL;
    }
    if (!PyArg_ParseTuple(args[3], "OOnnn", &shape, &dtype, &rows, &tokens, &token_nbytes) ||
        !PyArg_ParseTuple(args[4], "OO!O!", &layers, &PyTuple_Type, &tensors, &PyTuple_Type, &addresses) ||
        !both_tuples(tensors, addresses))
        return NULL;
    Found found = {Py_NewRef(shape), Py_NewRef(dtype)};
    PyObject *size = NULL, *result = NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(tensors);
    int here = look_over(args[0], args[1], args[2], 0, &found);
    if (here > 0)
        here = PyTuple_GET_SIZE(found.tensors) == count && found.length <= tokens;
    for (Py_ssize_t index = 0; here > 0 && index < count; index++)
        here = PyObject_IsTrue(PyTuple_GET_ITEM(found.addresses, index));
    if (here > 0) {
        Runs runs = {rows, tokens * token_nbytes, found.length * token_nbytes};
        size = PyLong_FromSsize_t(found.length);
        here = size == NULL ? -1 : refilled(layers, tensors, addresses, found.addresses, &runs, size);
    }
    if (here > 0)
        result = PyTuple_Pack(3, size, found.tensors, found.addresses);
    else if (here == 0)
        result = Py_NewRef(Py_None);
    Py_XDECREF(size);
    forget(&found);
    return result;
}

PyDoc_STRVAR(equal_doc,
"equal(one, other, rows, step, n)\n--\n\n"
"Tell whether all runs of the buffers at two tuples of addresses hold the same bytes.");

static PyObject *
equal(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Runs runs;
    if (nargs != 5) {
        PyErr_SetString(PyExc_TypeError, "equal takes two tuples of addresses, rows, step and n");
        return NULL;
    }
    if (!both_tuples(args[0], args[1]) || runs_of(args + 2, &runs) < 0)
        return NULL;
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(args[0]); index++) {
        char *p, *q;
        if (address_at(args[0], index, &p) < 0 || address_at(args[1], index, &q) < 0)
            return NULL;
        for (Py_ssize_t row = 0; row < runs.rows; row++)
            if (memcmp(p + row * runs.step, q + row * runs.step, runs.n))
                Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(pack_doc,
"pack(addresses, rows, step, n)\n--\n\n"
"Return the runs of each buffer one behind the other; where there is one only, the memory itself, read-only.");

static PyObject *
pack(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Runs runs;
    if (nargs != 4 || !PyTuple_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "pack takes a tuple of addresses, rows, step and n");
        return NULL;
    }
    if (runs_of(args + 1, &runs) < 0)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(args[0]);
    PyObject *parts = PyTuple_New(count);
    for (Py_ssize_t index = 0; parts != NULL && index < count; index++) {
        char *from;
        PyObject *part = NULL;
        if (address_at(args[0], index, &from) == 0)
            part = runs.rows == 1 ? PyMemoryView_FromMemory(from, runs.n, PyBUF_READ)
                                  : PyBytes_FromStringAndSize(NULL, runs.rows * runs.n);
        if (part == NULL) {
            Py_CLEAR(parts);
            break;
        }
        for (Py_ssize_t row = 0; runs.rows > 1 && row < runs.rows; row++)
            memcpy(PyBytes_AS_STRING(part) + row * runs.n, from + row * runs.step, runs.n);
        PyTuple_SET_ITEM(parts, index, part);
    }
    return parts;
}

static PyMethodDef methods[] = {
    {"survey", (PyCFunction)(void (*)(void))survey, METH_FASTCALL, survey_doc},
    {"placed", (PyCFunction)(void (*)(void))placed, METH_FASTCALL, placed_doc},
    {"refill", (PyCFunction)(void (*)(void))refill, METH_FASTCALL, refill_doc},
    {"restage", (PyCFunction)(void (*)(void))restage, METH_FASTCALL, restage_doc},
    {"equal", (PyCFunction)(void (*)(void))equal, METH_FASTCALL, equal_doc},
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL, pack_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_plain",
    .m_doc = "Byte work of plain entries; see shadow/plain_python.py.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__plain(void)
{
    s_k_cache = PyUnicode_InternFromString("_k_cache");
    s_v_cache = PyUnicode_InternFromString("_v_cache");
    s_cache = PyUnicode_InternFromString("_cache");
    s_size = PyUnicode_InternFromString("_size");
    s_data_ptr = PyUnicode_InternFromString("data_ptr");
    s_shape = PyUnicode_InternFromString("shape");
    s_dtype = PyUnicode_InternFromString("dtype");
    s_layout = PyUnicode_InternFromString("layout");
    s_is_cpu = PyUnicode_InternFromString("is_cpu");
    s_is_contiguous = PyUnicode_InternFromString("is_contiguous");
    s_is_neg = PyUnicode_InternFromString("is_neg");
    return PyErr_Occurred() ? NULL : PyModule_Create(&definition);
}
