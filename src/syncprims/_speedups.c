/* The optional compiled core: the short ways of a counter, in C.
 *
 * Who reads this for the first time: docs/explanation/compiled.rst says what it is for and how it is built.
 *
 * What is here, and what is not
 * -----------------------------
 * Only the uncontended path of what is called most. Waiting, hooks, updates, bounds that are violated, numbers that do
 * not fit a word, arguments that are not plain integers, and every error are Python, in _counter/atomic_counter.py.
 * That file is the whole implementation, and is complete without this one. `syncprims._core.speedups` chooses.
 *
 * The rule for every function
 * ---------------------------
 * A function here does all of its work, or none. Between its first look at the shared word and its last store it calls
 * nothing that could run Python code: no user's method, no finalizer, no signal handler. So an interrupt comes before
 * it or after it. If the short way is not open, it calls the Python method of the same name with the arguments as they
 * came, and returns what that returns. It has changed nothing before that call. Therefore errors, their texts and the
 * order in which arguments are looked at are Python's.
 *
 * What is made is made before the change: if there is no memory for the result, nothing has changed.
 *
 * The counter
 * -----------
 * A counter is one word of 64 bits, that all its threads change by compare-and-swap:
 *
 *     bits 2 to 63   the value, from -2^61 to 2^61 - 1
 *     bit 1, SMALL   the value is in this word; else it is the integer `big`
 *     bit 0, OPEN    the short way is open: no update() is under way, no thread waits, no hook is overridden
 *
 * The design calls the opposite of these marks "big" and "special". They are this way round so that a new object, all
 * zeros, is closed to the core until its `__init__` has opened it.
 *
 * 1. The core changes a word only if both marks are set, and by a compare-and-swap from the word that it looked at.
 *    So a change that the core makes is never based on a value that is not there any more.
 * 2. Python changes the value only under the counter's lock, with the mark OPEN taken away before it compares the
 *    value with the one that its change is based on. As long as the mark is away the core changes nothing (1), and
 *    other threads come to the lock. So Python may compare and store in two steps.
 * 3. A thread that waits takes the mark away, under the lock, and looks at the value after that. A change by the core
 *    was made before, and then the thread sees it; or it finds the mark gone, goes to Python, and wakes the thread.
 * 4. `least` and `greatest` are the bounds, cut to what fits in the word; they are set before the mark is. So one
 *    comparison tells that a new value is allowed, and that it fits. Anything else is up to Python.
 * 5. `big` is read and replaced in the critical section of the object. It is an exact int, so dropping it runs nothing.
 *
 * With the GIL one thread at a time is in here, and no other can come in between. Then the word is a plain variable.
 *
 * Calls
 * -----
 * The interpreter calls a method in C fastest if it was made for exactly the class of the object (its specialised code
 * compares the two). So the methods are not those of the base class `Counter`: `put` makes them for the Python class,
 * in the place of its own, which it keeps to call them. Their docstrings and signatures are those of the Python ones.
 * All this is in the state of the module, so each interpreter has its own. It outlives the class, which keeps its base
 * class alive, and that keeps the module.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* What the Python side expects of this file; `_core/speedups.py` has the same number. Change both together. */
#define REVISION 1

/* -- a word that several threads change --------------------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED
#  ifdef _MSC_VER
#    include <intrin.h>
static inline int64_t
get(int64_t *word)
{
    return _InterlockedOr64((volatile __int64 *)word, 0);
}

static inline int
swap(int64_t *word, int64_t from, int64_t to)
{
    return _InterlockedCompareExchange64((volatile __int64 *)word, to, from) == from;
}
#  else
static inline int64_t
get(int64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline int
swap(int64_t *word, int64_t from, int64_t to)
{
    return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#  endif
#  define ENTER(object) Py_BEGIN_CRITICAL_SECTION(object)
#  define LEAVE() Py_END_CRITICAL_SECTION()
#else
static inline int64_t
get(int64_t *word)
{
    return *word;
}

static inline int
swap(int64_t *word, int64_t from, int64_t to)
{
    if (*word != from) {
        return 0;
    }
    *word = to;
    return 1;
}
#  define ENTER(object) {
#  define LEAVE() }
#endif

/* -- the state of the module -------------------------------------------------------------------------------------- */

/* The methods that `put` can make, in the order of `functions` below. */
enum { INCREMENT, DECREMENT, ADD, GET_AND_ADD, SET, GET_AND_SET, COMPARE_AND_SET, METHODS };

typedef struct {
    PyTypeObject *counter;
    PyObject *python[METHODS];   /* the Python method of the same name */
    PyMethodDef made[METHODS];   /* what the descriptors point to */
    char *texts[METHODS];        /* their signatures and docstrings */
} State;

static struct PyModuleDef module;

/* Call the Python method. The caller has changed nothing. */
static PyObject *
in_python(PyObject *self, int method, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *found = PyType_GetModuleByDef(Py_TYPE(self), &module);
    if (found == NULL) {
        return NULL;
    }
    State *state = PyModule_GetState(found);
    PyObject *python = state == NULL ? NULL : state->python[method];
    if (python == NULL) {  /* the garbage collector has taken the interpreter's last objects apart */
        PyErr_SetString(PyExc_RuntimeError, "syncprims has ended with its interpreter");
        return NULL;
    }
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *few[4];
    PyObject **all = few;
    if (count > 3) {
        all = PyMem_New(PyObject *, count + 1);
        if (all == NULL) {
            return PyErr_NoMemory();
        }
    }
    all[0] = self;
    for (Py_ssize_t i = 0; i < count; i++) {
        all[i + 1] = args[i];
    }
    Py_INCREF(python);
    PyObject *answer = PyObject_Vectorcall(python, all, (size_t)nargs + 1, kwnames);
    Py_DECREF(python);
    if (all != few) {
        PyMem_Free(all);
    }
    return answer;
}

/* -- the counter -------------------------------------------------------------------------------------------------- */

#define OPEN 1
#define SMALL 2
#define BOTH (OPEN | SMALL)
#define LEAST (-((int64_t)1 << 61))
#define GREATEST (((int64_t)1 << 61) - 1)

typedef struct {
    PyObject_HEAD
    int64_t word;
    int64_t least;
    int64_t greatest;
    PyObject *big;
} Counter;

static inline int64_t
value_in(int64_t word)
{
    return word >> 2;  /* every compiler that CPython knows shifts the sign along */
}

static inline int64_t
word_of(int64_t value, int64_t marks)
{
    return (int64_t)((uint64_t)value << 2) | marks;
}

/* Whether it is an exact int that fits; nothing else runs no code of the user's. */
static inline int
fits(PyObject *number, int64_t *value)
{
    if (!PyLong_CheckExact(number)) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        *value = PyUnstable_Long_CompactValue((PyLongObject *)number);
        return *value >= LEAST && *value <= GREATEST;
    }
#endif
    int overflow;
    *value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return !overflow && *value >= LEAST && *value <= GREATEST;
}

/* Change the value if the short way is open. Return the new reference, or NULL with *done for an error, or NULL
 * without it if it is up to Python. */
typedef enum { SUM, SUM_RETURN_OLD, STORE, STORE_RETURN_OLD } Change;

static inline PyObject *
change(Counter *self, int64_t n, Change how, int *done)
{
    for (;;) {
        int64_t word = get(&self->word);
        if ((word & BOTH) != BOTH) {
            return NULL;
        }
        int64_t old = value_in(word);
        int64_t new = how <= SUM_RETURN_OLD ? old + n : n;  /* of two 62 bits each: it can't overflow */
        if (new < self->least || new > self->greatest) {
            return NULL;
        }
        PyObject *answer = how == STORE ? Py_NewRef(Py_None) : PyLong_FromLongLong(how == SUM ? new : old);
        if (answer == NULL) {
            *done = 1;
            return NULL;
        }
        if (swap(&self->word, word, word_of(new, BOTH))) {
            return answer;
        }
        Py_DECREF(answer);
    }
}

/* One argument, which may be left out if `method` has a default for it. */
#define CHANGES(NAME, METHOD, DEFAULT, SIGN, HOW)                                                                     \
    static PyObject *NAME(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)                 \
    {                                                                                                                 \
        int64_t n = 1;                                                                                                \
        int done = 0;                                                                                                 \
        if (kwnames == NULL && (nargs == 1 ? fits(args[0], &n) : DEFAULT && nargs == 0)) {                            \
            PyObject *answer = change((Counter *)self, SIGN n, HOW, &done);                                           \
            if (answer != NULL || done) {                                                                             \
                return answer;                                                                                        \
            }                                                                                                         \
        }                                                                                                             \
        return in_python(self, METHOD, args, nargs, kwnames);                                                         \
    }

CHANGES(counter_increment, INCREMENT, 1, +, SUM)
CHANGES(counter_decrement, DECREMENT, 1, -, SUM)
CHANGES(counter_add, ADD, 0, +, SUM)
CHANGES(counter_get_and_add, GET_AND_ADD, 1, +, SUM_RETURN_OLD)
CHANGES(counter_set, SET, 0, +, STORE)
CHANGES(counter_get_and_set, GET_AND_SET, 0, +, STORE_RETURN_OLD)

static PyObject *
counter_compare_and_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Counter *counter = (Counter *)self;
    int64_t expected, new;
    if (kwnames == NULL && nargs == 2 && fits(args[0], &expected) && fits(args[1], &new) && new >= counter->least &&
        new <= counter->greatest) {
        for (;;) {
            int64_t word = get(&counter->word);
            if ((word & BOTH) != BOTH) {
                break;
            }
            if (value_in(word) != expected) {
                Py_RETURN_FALSE;
            }
            if (swap(&counter->word, word, word_of(new, BOTH))) {
                Py_RETURN_TRUE;
            }
        }
    }
    return in_python(self, COMPARE_AND_SET, args, nargs, kwnames);
}

/* What an attribute in a slot of Python says while it has no value. */
static PyObject *
missing(PyObject *self, const char *name)
{
    return PyErr_Format(PyExc_AttributeError, "'%.100s' object has no attribute '%s'", Py_TYPE(self)->tp_name, name);
}

static int
refuse_deleting(const char *name)
{
    PyErr_SetString(PyExc_AttributeError, name);
    return -1;
}

static PyObject *
counter_value(PyObject *self, void *Py_UNUSED(closure))
{
    Counter *counter = (Counter *)self;
    int64_t word = get(&counter->word);
    if (word & SMALL) {
        return PyLong_FromLongLong(value_in(word));
    }
    PyObject *answer;
    ENTER(self);
    word = get(&counter->word);
    answer = word & SMALL ? PyLong_FromLongLong(value_in(word)) : Py_XNewRef(counter->big);
    LEAVE();
    return answer != NULL || PyErr_Occurred() ? answer : missing(self, "_value");
}

/* Store what Python has computed; see (2). */
static int
counter_set_value(PyObject *self, PyObject *new, void *Py_UNUSED(closure))
{
    Counter *counter = (Counter *)self;
    if (new == NULL) {
        return refuse_deleting("_value");
    }
    if (!PyLong_CheckExact(new)) {
        PyErr_SetString(PyExc_TypeError, "the value of a counter is an int");
        return -1;
    }
    int64_t value, word, stored;
    int small = fits(new, &value);
    PyObject *before;
    ENTER(self);
    before = counter->big;
    counter->big = small ? NULL : Py_NewRef(new);
    do {
        word = get(&counter->word);
        stored = small ? word_of(value, SMALL | (word & OPEN)) : word & OPEN;
    } while (!swap(&counter->word, word, stored));
    LEAVE();
    Py_XDECREF(before);
    return 0;
}

/* True while the short way is closed. It is False, and never None, while it is open: in Python a None opens the short
 * way of the Python methods, which would not notice what the core does. */
static PyObject *
counter_special(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(!(get(&((Counter *)self)->word) & OPEN));
}

static int
counter_set_special(PyObject *self, PyObject *special, void *Py_UNUSED(closure))
{
    Counter *counter = (Counter *)self;
    int64_t word;
    if (special == NULL) {
        return refuse_deleting("_special");
    }
    do {
        word = get(&counter->word);
    } while (!swap(&counter->word, word, special == Py_False ? word | OPEN : word & ~(int64_t)OPEN));
    return 0;
}

/* A bound: an int, or an infinite float if there is none; cut to what fits. See (4). */
static int
counter_set_bound(PyObject *self, PyObject *bound, void *which)
{
    Counter *counter = (Counter *)self;
    int lower = which == NULL, overflow = 0;
    int64_t value;
    if (bound == NULL) {
        return refuse_deleting("a bound");
    }
    if (PyFloat_CheckExact(bound)) {
        value = lower ? LEAST : GREATEST;
    }
    else {
        value = PyLong_AsLongLongAndOverflow(bound, &overflow);
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    /* One beyond what fits lets nothing through. */
    if (overflow < 0 || value < LEAST) {
        value = lower ? LEAST : LEAST - 1;
    }
    else if (overflow > 0 || value > GREATEST) {
        value = lower ? GREATEST + 1 : GREATEST;
    }
    *(lower ? &counter->least : &counter->greatest) = value;
    return 0;
}

static void
counter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Counter *)self)->big);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyGetSetDef counter_attributes[] = {
    {"value", counter_value, NULL, "The value at this moment; never blocks.", NULL},
    {"_value", counter_value, counter_set_value, "The value, as Python reads and stores it.", NULL},
    {"_special", counter_special, counter_set_special, "Whether the core's short way is closed.", NULL},
    {"_least", NULL, counter_set_bound, "The least value that the core may store.", NULL},
    {"_greatest", NULL, counter_set_bound, "The greatest value that the core may store.", (void *)"greatest"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot counter_slots[] = {
    {Py_tp_doc, "The number of a counter: what `AtomicCounter` keeps in C."},
    {Py_tp_dealloc, counter_dealloc},
    {Py_tp_getset, counter_attributes},
    {0, NULL},
};

static PyType_Spec counter_spec = {
    .name = "syncprims._speedups.Counter",
    .basicsize = sizeof(Counter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = counter_slots,
};

/* -- putting methods into classes --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    PyObject *(*function)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
} functions[METHODS] = {
    [INCREMENT] = {"increment", counter_increment},
    [DECREMENT] = {"decrement", counter_decrement},
    [ADD] = {"add", counter_add},
    [GET_AND_ADD] = {"get_and_add", counter_get_and_add},
    [SET] = {"set", counter_set},
    [GET_AND_SET] = {"get_and_set", counter_get_and_set},
    [COMPARE_AND_SET] = {"compare_and_set", counter_compare_and_set},
};

/* put(cls, name, text): put the core's method into a class, in the place of the Python method of this name. The text is
 * its signature and docstring, as `__text_signature__` wants them. */
static PyObject *
put(PyObject *self, PyObject *args)
{
    State *state = PyModule_GetState(self);
    PyTypeObject *type;
    const char *name, *text;
    if (!PyArg_ParseTuple(args, "O!ss:put", &PyType_Type, &type, &name, &text)) {
        return NULL;
    }
    if (!PyType_IsSubtype(type, state->counter)) {
        return PyErr_Format(PyExc_TypeError, "%R is not derived from the core's type", type);
    }
    for (int i = 0; i < METHODS; i++) {
        if (strcmp(functions[i].name, name)) {
            continue;
        }
        if (state->texts[i] != NULL) {
            return PyErr_Format(PyExc_RuntimeError, "%s has been put into a class before", name);
        }
        char *kept = PyMem_Malloc(strlen(text) + 1);
        if (kept == NULL) {
            return PyErr_NoMemory();
        }
        state->texts[i] = strcpy(kept, text);
        PyObject *python = PyObject_GetAttrString((PyObject *)type, name);
        if (python == NULL) {
            return NULL;
        }
        state->python[i] = python;
        state->made[i].ml_name = functions[i].name;
        state->made[i].ml_meth = (PyCFunction)(void (*)(void))functions[i].function;
        state->made[i].ml_flags = METH_FASTCALL | METH_KEYWORDS;
        state->made[i].ml_doc = kept;
        PyObject *descriptor = PyDescr_NewMethod(type, &state->made[i]);
        if (descriptor == NULL) {
            return NULL;
        }
        int failed = PyObject_SetAttrString((PyObject *)type, name, descriptor);
        Py_DECREF(descriptor);
        if (failed) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    return PyErr_Format(PyExc_ValueError, "the core has no method %s", name);
}

/* -- the module --------------------------------------------------------------------------------------------------- */

static PyMethodDef module_functions[] = {
    {"put", put, METH_VARARGS, "Put the core's method into a class, in the place of the Python method of this name."},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *self)
{
    State *state = PyModule_GetState(self);
    state->counter = (PyTypeObject *)PyType_FromModuleAndSpec(self, &counter_spec, NULL);
    if (state->counter == NULL || PyModule_AddObjectRef(self, "Counter", (PyObject *)state->counter) < 0) {
        return -1;
    }
    return PyModule_AddIntConstant(self, "REVISION", REVISION);
}

static int
module_traverse(PyObject *self, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(self);
    if (state != NULL) {
        Py_VISIT(state->counter);
        for (int i = 0; i < METHODS; i++) {
            Py_VISIT(state->python[i]);
        }
    }
    return 0;
}

static int
module_clear(PyObject *self)
{
    State *state = PyModule_GetState(self);
    if (state != NULL) {
        Py_CLEAR(state->counter);
        for (int i = 0; i < METHODS; i++) {
            Py_CLEAR(state->python[i]);
        }
    }
    return 0;
}

static void
module_free(void *self)
{
    module_clear((PyObject *)self);
    State *state = PyModule_GetState((PyObject *)self);
    if (state != NULL) {
        for (int i = 0; i < METHODS; i++) {
            PyMem_Free(state->texts[i]);
        }
    }
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "syncprims._speedups",
    .m_doc = "The optional compiled core; `syncprims._core.speedups` decides whether it is used.",
    .m_size = sizeof(State),
    .m_methods = module_functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&module);
}
