/* Counts what Python's allocator of objects is asked for while some work runs: an exact number, whatever the clock says.
 *
 * What Python takes from its lists of freed objects of a kind instead is not counted; neither is what torch allocates.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyMemAllocatorEx beneath; /* the allocator proper, while it is counted */
static Py_ssize_t asked;

static void *
counted_malloc(void *Py_UNUSED(context), size_t size)
{
    asked++;
    return beneath.malloc(beneath.ctx, size);
}

static void *
counted_calloc(void *Py_UNUSED(context), size_t count, size_t size)
{
    asked++;
    return beneath.calloc(beneath.ctx, count, size);
}

static void *
counted_realloc(void *Py_UNUSED(context), void *block, size_t size)
{
    asked += block == NULL;
    return beneath.realloc(beneath.ctx, block, size);
}

static void
counted_free(void *Py_UNUSED(context), void *block)
{
    beneath.free(beneath.ctx, block);
}

static PyObject *
allocations(PyObject *Py_UNUSED(module), PyObject *work)
{
    PyMemAllocatorEx counting = {NULL, counted_malloc, counted_calloc, counted_realloc, counted_free};
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &beneath);
    asked = 0;
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &counting);
    PyObject *answer = PyObject_CallNoArgs(work);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &beneath);
    if (answer == NULL)
        return NULL;
    Py_DECREF(answer);
    return PyLong_FromSsize_t(asked);
}

static PyMethodDef methods[] = {
    {"allocations", allocations, METH_O, "Return how often some work asked Python's allocator for memory of an object."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_allocations", "Counts allocations of Python objects.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__allocations(void)
{
    return PyModule_Create(&definition);
}
