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
    int32_t ndim;
    int64_t shape[MOST_DIMS];
    uint8_t code, bits;
    uint16_t lanes;
} Structure;

/* View a tensor: 1 if it is dense and contiguous in host memory, 0 if not. Whatever else torch can't say in a view (a
 * sparse layout, a quantised type) is no dense buffer either. */
static int
viewed(PyObject *tensor, View *view)
{
    if (view_from_object(tensor, view) != 0) {
        PyErr_Clear();
        return 0;
    }
    if (view->device_type != ON_CPU || view->ndim > MOST_DIMS)
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
    structure->ndim = view->ndim;
    memcpy(structure->shape, view->shape, view->ndim * sizeof(int64_t));
    structure->code = view->dtype.code;
    structure->bits = view->dtype.bits;
    structure->lanes = view->dtype.lanes;
}

static int
is_of(const View *view, const Structure *structure)
{
    return view->ndim == structure->ndim && view->dtype.code == structure->code &&
           view->dtype.bits == structure->bits && view->dtype.lanes == structure->lanes &&
           memcmp(view->shape, structure->shape, view->ndim * sizeof(int64_t)) == 0;
}
