/* The byte work of dense entries; dense_python.py says what each function means and does the same without a compiler.
 *
 * An entry is a handful of buffers. In Python every step over them is a call; here one call sees to all of them. Nothing
 * is held between calls, and addresses are only followed where regions.py has just made sure that tensors lie there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* A tensor as DLPack describes it, and the head of the table in which torch offers to do so without an allocation
 * (github.com/dmlc/dlpack, version 1; torch 2.10 and later). One such call answers what takes seven attributes. */
typedef struct {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} View;

typedef struct {
    uint32_t major, minor;
    void *older;
    void *allocate, *managed_from_object, *managed_to_object;
    int (*view_from_object)(void *tensor, View *view);
    void *stream;
} Exchange;

static int (*view_from_object)(void *tensor, View *view); /* of torch, once connected */

#define ON_CPU 1
#define MOST_DIMS 8

/* What the buffers of an entry have in common. */
typedef struct {
    int32_t device_type, device_id, ndim;
    int64_t shape[MOST_DIMS];
    uint8_t code, bits;
    uint16_t lanes;
} Structure;

/* View a tensor: 1 if it is strided, and in host memory unless it may lie anywhere; 0 if not. Whatever else torch can't say
 * in a view (a sparse layout, a quantised type) is none either. */
static int
viewed(PyObject *tensor, View *view, int anywhere)
{
    if (view_from_object(tensor, view) != 0) {
        PyErr_Clear();
        return 0;
    }
    return (anywhere || view->device_type == ON_CPU) && view->ndim <= MOST_DIMS;
}

/* The same, and whether it is contiguous. */
static int
dense(PyObject *tensor, View *view, int anywhere)
{
    if (!viewed(tensor, view, anywhere))
        return 0;
    int64_t wanted = 1;
    for (int32_t dim = view->ndim - 1; dim >= 0; dim--) {
        if (view->shape[dim] != 1 && view->strides[dim] != wanted)
            return 0;
        wanted *= view->shape[dim];
    }
    return 1;
}

static char *
begin_of(const View *view)
{
    return (char *)view->data + view->byte_offset;
}

static void
describe(const View *view, Structure *structure)
{
    structure->device_type = view->device_type;
    structure->device_id = view->device_id;
    structure->ndim = view->ndim;
    memcpy(structure->shape, view->shape, view->ndim * sizeof(int64_t));
    structure->code = view->dtype.code;
    structure->bits = view->dtype.bits;
    structure->lanes = view->dtype.lanes;
}

static int
is_of(const View *view, const Structure *structure)
{
    return view->device_type == structure->device_type && view->device_id == structure->device_id &&
           view->ndim == structure->ndim && view->dtype.code == structure->code &&
           view->dtype.bits == structure->bits && view->dtype.lanes == structure->lanes &&
           memcmp(view->shape, structure->shape, view->ndim * sizeof(int64_t)) == 0;
}

static PyObject *s_k_cache, *s_v_cache, *s_cache, *s_size, *s_shape, *s_dtype, *s_is_neg;

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

/* Look at one Cache: 1 if its buffer is this tensor, contiguous at this address, 0 if not, -1 on an error. */
static int
lies(PyObject *cache, PyObject *tensor, PyObject *address)
{
    PyObject *buffer = PyObject_GetAttr(cache, s_cache);
    if (buffer == NULL)
        return -1;
    int same = buffer == tensor;
    View view;
    if (same) {
        same = dense(buffer, &view, 1) && begin_of(&view) == (char *)PyLong_AsVoidPtr(address);
        if (PyErr_Occurred())
            same = -1;
    }
    Py_DECREF(buffer);
    return same;
}

/* Return the length of one Cache, -1 if it is no whole number of at least 0, -2 on an error. */
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

/* Where the buffers of an entry are, new references or NULL, and how much of each is valid. */
typedef struct {
    PyObject *tensors, *addresses;
    Py_ssize_t length;
} Found;

static void
forget(Found *found)
{
    Py_XDECREF(found->tensors);
    Py_XDECREF(found->addresses);
}

/* Whether a tensor stands for the negative of what its memory holds: 1, 0, -1 on an error. */
static int
is_negative(PyObject *tensor)
{
    PyObject *answer = PyObject_CallMethodNoArgs(tensor, s_is_neg);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : answer == Py_True;
}

/* Return the layers of an entry if they are a list or a tuple: going through anything else might never end. */
static PyObject *
listed(PyObject *sequence)
{
    if (PyList_Check(sequence) || PyTuple_Check(sequence))
        return Py_NewRef(sequence);
    PyErr_SetString(PyExc_TypeError, "layers must be a list or a tuple");
    return NULL;
}

/* Look over the buffers of an entry: 1 if they are dense, of one structure and (unless it is of no interest) length, and,
 * where one is given, of this structure; 0 if not, -1 on an error. Forget what was found in any case. */
static int
look_over(PyObject *sequence, PyObject *type, int any_size, int anywhere, const Structure *wanted, Found *found)
{
    PyObject *layers = listed(sequence);
    if (layers == NULL)
        return -1;
    Py_ssize_t count = 2 * PySequence_Fast_GET_SIZE(layers);
    PyObject *tensors = found->tensors = PyTuple_New(count);
    PyObject *addresses = found->addresses = PyTuple_New(count);
    int fits = tensors == NULL || addresses == NULL ? -1 : count > 0;
    Structure first;
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
        View view;
        if (fits > 0 && (fits = dense(tensor, &view, anywhere)) > 0) {
            if (wanted == NULL) {
                describe(&view, &first);
                wanted = &first;
            }
            fits = is_of(&view, wanted);
        }
        if (fits > 0) {
            int negative = is_negative(tensor);
            fits = negative < 0 ? -1 : !negative;
        }
        if (fits > 0) {
            PyObject *address = PyLong_FromVoidPtr(begin_of(&view));
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

static PyObject *
survey(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Found found = {NULL};
    PyObject *result = NULL;
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "survey takes layers, the class of tensors, any_size and anywhere");
        return NULL;
    }
    int fits = look_over(args[0], args[1], args[2] == Py_True, args[3] == Py_True, NULL, &found);
    if (fits > 0) {
        PyObject *first = PyTuple_GET_ITEM(found.tensors, 0);
        PyObject *shape = PyObject_GetAttr(first, s_shape), *dtype = PyObject_GetAttr(first, s_dtype);
        if (shape != NULL && dtype != NULL)
            result = Py_BuildValue("(OOnOO)", shape, dtype, found.length, found.tensors, found.addresses);
        Py_XDECREF(shape);
        Py_XDECREF(dtype);
    }
    else if (fits == 0)
        result = Py_NewRef(Py_None);
    forget(&found);
    return result;
}

/* Return what `placed` does, or 0 for a length where it is of no interest; -3 on an error. */
static Py_ssize_t
length_there(PyObject *sequence, PyObject *tensors, PyObject *addresses, int any_size)
{
    PyObject *layers = listed(sequence);
    if (layers == NULL)
        return -3;
    Py_ssize_t count = 2 * PySequence_Fast_GET_SIZE(layers), length = -1;
    int here = count && count == PyTuple_GET_SIZE(tensors), even = 1;
    for (Py_ssize_t index = 0; here > 0 && index < count; index++) {
        PyObject *cache = cache_at(layers, index);
        here = cache == NULL ? -1 : lies(cache, PyTuple_GET_ITEM(tensors, index), PyTuple_GET_ITEM(addresses, index));
        Py_ssize_t size = here > 0 && !any_size ? length_of(cache) : 0;
        Py_XDECREF(cache);
        if (size == -2)
            here = -1;
        if (index == 0)
            length = size;
        even &= size >= 0 && size == length;
    }
    Py_DECREF(layers);
    return here < 0 ? -3 : !here ? -1 : even ? length : -2;
}

static PyObject *
placed(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || !both_tuples(args[1], args[2])) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "placed takes layers, tensors and addresses");
        return NULL;
    }
    Py_ssize_t length = length_there(args[0], args[1], args[2], 0);
    return length == -3 ? NULL : PyLong_FromSsize_t(length);
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
    Py_ssize_t there = length_there(sequence, tensors, addresses, 1);
    if (there < 0)
        return there == -3 ? -1 : 0;
    PyObject *layers = listed(sequence);
    if (layers == NULL)
        return -1;
    int here = 1;
    for (Py_ssize_t index = 0; here > 0 && index < PyTuple_GET_SIZE(tensors); index++) {
        PyObject *cache = cache_at(layers, index);
        here = cache == NULL || PyObject_SetAttr(cache, s_size, size) < 0 ? -1 : 1;
        Py_XDECREF(cache);
    }
    Py_DECREF(layers);
    return here > 0 && copied(addresses, source, runs) < 0 ? -1 : here;
}

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

/* Return 1 and the structure of entries of this shape and of the type of these tensors, 0 if there is none. */
static int
structure_of(PyObject *shape, PyObject *tensors, Structure *structure)
{
    View view;
    if (!PyTuple_GET_SIZE(tensors) || !dense(PyTuple_GET_ITEM(tensors, 0), &view, 0) || !PyTuple_Check(shape) ||
        PyTuple_GET_SIZE(shape) != view.ndim)
        return 0;
    describe(&view, structure);
    for (int32_t dim = 0; dim < view.ndim; dim++)
        structure->shape[dim] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, dim));
    PyErr_Clear();
    return 1;
}

static PyObject *
restage(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *shape, *dtype, *layers, *tensors, *addresses;
    Py_ssize_t rows, tokens, token_nbytes;
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "restage takes layers, the class of tensors, a structure and a staged entry");
        return NULL;
    }
    if (!PyArg_ParseTuple(args[2], "OOnnn", &shape, &dtype, &rows, &tokens, &token_nbytes) ||
        !PyArg_ParseTuple(args[3], "OO!O!", &layers, &PyTuple_Type, &tensors, &PyTuple_Type, &addresses) ||
        !both_tuples(tensors, addresses))
        return NULL;
    Found found = {NULL};
    PyObject *size = NULL, *result = NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(tensors);
    Structure wanted;
    int here = structure_of(shape, tensors, &wanted);
    if (here > 0)
        here = look_over(args[0], args[1], 0, 0, &wanted, &found);
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

/* Whether all runs of the buffers at two tuples of addresses hold the same bytes: 1, 0, -1 on an error. */
static int
same_bytes(PyObject *one, PyObject *other, const Runs *runs)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(one); index++) {
        char *p, *q;
        if (address_at(one, index, &p) < 0 || address_at(other, index, &q) < 0)
            return -1;
        for (Py_ssize_t row = 0; row < runs->rows; row++)
            if (memcmp(p + row * runs->step, q + row * runs->step, runs->n))
                return 0;
    }
    return 1;
}

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
    int same = same_bytes(args[0], args[1], &runs);
    return same < 0 ? NULL : PyBool_FromLong(same);
}

/* Return the runs of all buffers, one behind the other: a view of the memory itself where they lie so, else a copy. */
static PyObject *
gathered(PyObject *addresses, const Runs *runs)
{
    Py_ssize_t count = PyTuple_GET_SIZE(addresses), each = runs->rows * runs->n;
    char *from = NULL, *first = NULL;
    int together = runs->rows == 1 || runs->step == runs->n;
    for (Py_ssize_t index = 0; together && index < count; index++) {
        if (address_at(addresses, index, &from) < 0)
            return NULL;
        if (index == 0)
            first = from;
        together = from == first + index * each;
    }
    if (together && first != NULL)
        return PyMemoryView_FromMemory(first, count * each, PyBUF_READ);
    PyObject *copy = PyBytes_FromStringAndSize(NULL, count * each);
    char *to = copy == NULL ? NULL : PyBytes_AS_STRING(copy);
    for (Py_ssize_t index = 0; copy != NULL && index < count; index++) {
        if (address_at(addresses, index, &from) < 0)
            Py_CLEAR(copy);
        else
            for (Py_ssize_t row = 0; row < runs->rows; row++, to += runs->n)
                memcpy(to, from + row * runs->step, runs->n);
    }
    return copy;
}

static PyObject *
gather(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Runs runs;
    if (nargs != 4 || !PyTuple_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "gather takes a tuple of addresses, rows, step and n");
        return NULL;
    }
    return runs_of(args + 1, &runs) < 0 ? NULL : gathered(args[0], &runs);
}

static PyObject *
parts(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer all;
    Py_ssize_t count = nargs == 2 ? PyLong_AsSsize_t(args[1]) : 0;
    if (count < 1) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "parts takes contiguous bytes and a count");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &all, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t each = all.len / count;
    PyObject *found = PyTuple_New(count);
    for (Py_ssize_t index = 0; found != NULL && index < count; index++) {
        PyObject *part = PyMemoryView_FromMemory((char *)all.buf + index * each, each, PyBUF_READ);
        if (part == NULL)
            Py_CLEAR(found);
        else
            PyTuple_SET_ITEM(found, index, part);
    }
    PyBuffer_Release(&all);
    return found;
}

static PyObject *
agreed(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *layers[2], *tensors[2], *addresses[2], *shape, *dtype;
    Py_ssize_t rows, tokens, token_nbytes, length[2];
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "agreed takes two entries, their structure and whether contents are wanted");
        return NULL;
    }
    if (!PyArg_ParseTuple(args[2], "OOnnn", &shape, &dtype, &rows, &tokens, &token_nbytes))
        return NULL;
    for (int side = 0; side < 2; side++) {
        if (!PyArg_ParseTuple(args[side], "OO!O!", &layers[side], &PyTuple_Type, &tensors[side], &PyTuple_Type,
                              &addresses[side]) ||
            !both_tuples(tensors[side], addresses[side]))
            return NULL;
        length[side] = length_there(layers[side], tensors[side], addresses[side], 0);
        if (length[side] == -3)
            return NULL;
    }
    if (!both_tuples(addresses[0], addresses[1]))
        return NULL;
    if (length[0] != length[1] || length[0] < 0 || length[0] > tokens)
        Py_RETURN_NONE;
    Runs runs = {rows, tokens * token_nbytes, length[0] * token_nbytes};
    int same = same_bytes(addresses[0], addresses[1], &runs);
    if (same <= 0)
        return same < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *found = args[3] == Py_True ? gathered(addresses[0], &runs) : Py_NewRef(Py_None);
    return found == NULL ? NULL : Py_BuildValue("(nN)", length[0], found);
}

/* Return some positions of a tensor (rows, heads, positions, width), all heads of a position together; NULL without an
 * error if that takes more than copying memory. */
static PyObject *
columns_of(PyObject *tensor, PyObject *type, Py_ssize_t begin, Py_ssize_t end)
{
    View view;
    int plain = Py_IS_TYPE(tensor, (PyTypeObject *)type) && viewed(tensor, &view, 0) && view.ndim == 4 && begin >= 0 &&
                begin <= end && end <= view.shape[2] && (view.strides[3] == 1 || view.shape[3] <= 1) &&
                (view.dtype.code <= 2 || view.dtype.code == 4) && view.dtype.bits % 8 == 0 && view.dtype.lanes == 1;
    if (plain && (plain = is_negative(tensor)) >= 0)
        plain = !plain;
    if (plain <= 0)
        return NULL;
    Py_ssize_t each = view.dtype.bits / 8, n = view.shape[3] * each;
    PyObject *found = PyBytes_FromStringAndSize(NULL, view.shape[0] * (end - begin) * view.shape[1] * n);
    char *to = found == NULL ? NULL : PyBytes_AS_STRING(found), *from = begin_of(&view);
    for (int64_t row = 0; to != NULL && row < view.shape[0]; row++)
        for (int64_t position = begin; position < end; position++)
            for (int64_t head = 0; head < view.shape[1]; head++, to += n)
                memcpy(to,
                       from + each * (row * view.strides[0] + head * view.strides[1] + position * view.strides[2]), n);
    return found;
}

static PyObject *
columns(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t begin = nargs == 5 ? PyLong_AsSsize_t(args[3]) : 0, end = nargs == 5 ? PyLong_AsSsize_t(args[4]) : 0;
    if (nargs != 5 || !PyTuple_CheckExact(args[2]) || PyErr_Occurred()) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "columns takes a class, what else does it, a tuple of tensors, begin and end");
        return NULL;
    }
    PyObject *found = PyTuple_New(PyTuple_GET_SIZE(args[2]));
    for (Py_ssize_t index = 0; found != NULL && index < PyTuple_GET_SIZE(args[2]); index++) {
        PyObject *one = columns_of(PyTuple_GET_ITEM(args[2], index), args[0], begin, end);
        if (one == NULL)
            Py_CLEAR(found);
        else
            PyTuple_SET_ITEM(found, index, one);
    }
    return found != NULL || PyErr_Occurred() ? found : PyObject_Vectorcall(args[1], args + 2, 3, NULL);
}

/* Look at tensors through torch's DLPack exchange table; before this, nothing else may be called. */
static PyObject *
connect(PyObject *module, PyObject *capsule)
{
    Exchange *table = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    if (table == NULL)
        return NULL;
    if (table->major != 1)
        return PyErr_Format(PyExc_ImportError, "torch's DLPack exchange table is of version %u, not 1", table->major);
    view_from_object = table->view_from_object;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"connect", connect, METH_O, NULL},
    {"columns", (PyCFunction)(void (*)(void))columns, METH_FASTCALL, NULL},
    {"survey", (PyCFunction)(void (*)(void))survey, METH_FASTCALL, NULL},
    {"placed", (PyCFunction)(void (*)(void))placed, METH_FASTCALL, NULL},
    {"refill", (PyCFunction)(void (*)(void))refill, METH_FASTCALL, NULL},
    {"restage", (PyCFunction)(void (*)(void))restage, METH_FASTCALL, NULL},
    {"equal", (PyCFunction)(void (*)(void))equal, METH_FASTCALL, NULL},
    {"agreed", (PyCFunction)(void (*)(void))agreed, METH_FASTCALL, NULL},
    {"parts", (PyCFunction)(void (*)(void))parts, METH_FASTCALL, NULL},
    {"gather", (PyCFunction)(void (*)(void))gather, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_dense",
    .m_doc = "Byte work of dense entries; see shadow/memory/dense_python.py.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__dense(void)
{
    s_k_cache = PyUnicode_InternFromString("_k_cache");
    s_v_cache = PyUnicode_InternFromString("_v_cache");
    s_cache = PyUnicode_InternFromString("_cache");
    s_size = PyUnicode_InternFromString("_size");
    s_shape = PyUnicode_InternFromString("shape");
    s_dtype = PyUnicode_InternFromString("dtype");
    s_is_neg = PyUnicode_InternFromString("is_neg");
    return PyErr_Occurred() ? NULL : PyModule_Create(&definition);
}
