/* The optional compiled core: the fast paths of a counter and of a lock, in C.
 *
 * If you read this for the first time: docs/explanation/compiled.rst explains its purpose and how it is built.
 *
 * What is here, and what is not
 * -----------------------------
 * Here is only the uncontended path of the most frequent calls. Waiting, hooks, updates, violated bounds, numbers
 * that do not fit a word, arguments that are not plain integers, a lock that is not free, and every error are in
 * Python, in _counter/atomic_counter.py and _locks/timed_lock.py. These are the whole implementation, and are
 * complete without this file; then the lock is CPython's own. `syncprims._core.speedups` chooses.
 *
 * The rule for every function
 * ---------------------------
 * A function here does all of its work, or none. Between its first read of the shared word and its last store it calls
 * nothing that could run Python code: no user's method, no finalizer, no signal handler. So an interrupt comes before
 * it or after it. If the fast path is closed, it calls the Python method of the same name with the same arguments, and
 * returns its result. It has changed nothing before that call. Therefore errors, their texts and the order in which
 * arguments are checked are those of Python.
 *
 * All objects are made before the change: if there is no memory for the result, nothing has changed.
 *
 * The counter
 * -----------
 * A counter is one word of 64 bits, which its threads change by compare-and-swap:
 *
 *     bits 2 to 63   the value, from -2^61 to 2^61 - 1
 *     bit 1, SMALL   the value is in this word; otherwise it is the integer `big`
 *     bit 0, OPEN    the fast path is open: no update() is under way, no thread waits, no hook is overridden
 *
 * The design calls the opposite of these marks "big" and "special". They are this way round so that a new object, all
 * zeros, is closed to the core until its `__init__` has opened it.
 *
 * 1. The core changes a word only if both marks are set, and by a compare-and-swap from the word that it has read. So a
 *    change by the core is never based on an old value.
 * 2. Python changes the value only under the counter's lock. It clears the mark OPEN before it compares the value with
 *    the one on which its change is based. As long as the mark is clear the core changes nothing (1), and other threads
 *    go to the lock. So Python may compare and store in two steps.
 * 3. A waiter clears the mark, under the lock, and reads the value after that. Either a change by the core came before,
 *    and the waiter sees it; or the change finds the mark clear, goes to Python, and wakes the waiter.
 * 4. `least` and `greatest` are the bounds, limited to the range of the word; they are set before the mark. So one
 *    comparison shows that a new value is allowed, and that it fits. Python does everything else.
 * 5. `big` is read and replaced in the critical section of the object. It is an exact int, so dropping it runs nothing.
 *
 * With the GIL only one thread at a time is in here. Then the word is a plain variable.
 *
 * The lock
 * --------
 * A lock is reentrant and knows its owner, like CPython's RLock, which it replaces: the Python class above it makes it
 * a plain lock. It is a word and a gate:
 *
 *     owner      0: free; HANDED: promised to a waiter; otherwise the ident of the holder
 *     waiters    how many threads wait
 *     posted     1 from the opening of the gate until the thread that passed it has closed it again
 *     starving   1 if a thread that waited long has been overtaken
 *     handed_by  the ident of the last thread that was about to store HANDED
 *     gate       a lock of CPython's, closed (locked) unless a thread may pass; made for the first waiter
 *     count      how often the owner has acquired it; only the owner writes it, and `repr` reads it at any time
 *
 * Acquiring a free lock is one compare-and-swap of `owner` from 0. Nothing else is written.
 *
 * 1. A waiter counts itself in `waiters`, and then reads `owner`. A releasing thread stores `owner`, and then reads
 *    `waiters`. So one of the two sees the other: no thread sleeps while the lock is free and stays free.
 * 2. A release opens the gate for one thread, unless it is open already (`posted`). The thread that passes sets `posted`
 *    to 0, and then reads `owner`. If the lock is held, its holder has yet to release it, and will find this thread
 *    among the waiters.
 * 3. A thread that comes at the right moment may acquire the lock before one that was woken; that is fast, and may go on
 *    for long. So a thread that has waited for a millisecond and was overtaken sets `starving`. The next release stores
 *    HANDED instead of 0. Only a thread that is counted in `waiters` may acquire it then, and any of these may, except
 *    the one that has stored HANDED (`handed_by`). With the GIL, that one would come back and acquire the lock before
 *    any other thread gets the GIL. So it has to pass the gate first. It does not wait there forever: a thread that
 *    has stored HANDED opens the gate after that, and a waiter that gives up stores 0 and opens it.
 * 4. HANDED must not be left without a waiter. A waiter that gives up subtracts itself from `waiters`, and then changes
 *    HANDED to 0. A thread that has stored HANDED reads `waiters` after that, and changes it to 0 if there are none. So
 *    the last of them does it, and after it the rule (1) holds for the threads that came in between.
 * 5. A thread gives up only if it has not passed the gate since it last read `owner`. So no opening is lost. A left-over
 *    opening makes the next waiter check once more than necessary.
 * 6. An observed lock (see below) may be released by another thread as soon as it is acquired, when the one that has
 *    acquired it is still counted in `waiters`. So after that one has subtracted itself, it does the same as in (4).
 *
 * tests/locks/test_lock_protocol.py has these steps as a model, and runs all their interleavings.
 *
 * The functions that acquire the lock are not interrupted between that and their return. CPython decides what happens
 * between the return of `__enter__` and the body of a `with`: on 3.14 an interrupt may come there (gh-148874), so there
 * `__enter__` stays Python. 3.15 knows by the opcode in front that a call enters a `with`, and delivers nothing after it.
 * `acquire` stays Python on all versions: an interrupt may come between the return of a C function and the caller's
 * `try`, but not after a Python method.
 *
 * The token of hold()
 * -------------------
 * A lock keeps the last token that `hold` returned, which has the lock and the timeout. Entering the token acquires the
 * lock as above, and leaving it releases the lock, without a call of a Python method. It goes past these methods only if
 * that leaves nothing out: `ways` of the lock says that its class overrides none of them, and `goes_past` that no
 * diagnostics observe them. Python sets both, and sets the second whenever it has exchanged methods. Otherwise the token
 * calls the Python methods.
 *
 * The observed lock of the watch
 * ------------------------------
 * It has the same word and the same gate, and takes the place of `threading.Lock`: it is not reentrant, and any thread may
 * release it. So a release is a compare-and-swap from the owner that was read, and of two releases one fails. The thread
 * that acquires it notes after that which instruction of which code did it (`taken_at`, `taken_in`). If another thread
 * releases the lock in between, and a third acquires it, two threads write at once. So these rules hold:
 *
 * 1. `taken_in` is replaced in the critical section of the object, and a new reference to it is made there. So each code
 *    that was there is dropped once, by the thread that replaced it or by the one that frees the lock, and no thread gets
 *    a reference to a code that is gone.
 * 2. Outside of a critical section the reference is only compared with a code that the thread has a reference to.
 *    Nothing is read from what it points to. If the two are equal, there is nothing to replace.
 * 3. After such a release the place may be that of either thread, or the code of one and the instruction of the other.
 *    Python uses it only in the thread that has the lock, for a `with` that this thread is in.
 *
 * What is written while another thread may read it, and orders nothing, is written and read by `note` and `peek` and
 * their like. For ThreadSanitizer, ENTER, LEAVE and ALONE_WITH say what it can't see inside CPython.
 *
 * Forks
 * -----
 * In a forked child the waiters of the parent do not exist, and the gate may be in any state. The child counts `forks`
 * up before anything else, and a thread that waits, or finds waiters, compares it with that of the lock.
 *
 * Calls
 * -----
 * The interpreter calls a method in C fastest if it was made for exactly the class of the object (its specialised code
 * compares the two). So the methods are not those of the base classes: `put` makes them for the Python class and
 * replaces that class's own, which it keeps to call them. Their docstrings and signatures are those of the Python
 * methods. All this is in the state of the module, so each interpreter has its own. The state outlives the class: the
 * class keeps its base class alive, which keeps the module alive.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdint.h>
#include <time.h>
#ifdef _WIN32
#  define WIN32_LEAN_AND_MEAN
#  include <windows.h>
#else
#  include <pthread.h>
#endif

/* The version of the interface to Python; `_core/speedups.py` has the same number. Change both together. */
#define REVISION 4

/* -- a word that several threads change --------------------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED
#  ifdef _MSC_VER
#    include <intrin.h>
/* All of these are made of the one function that 32-bit Windows has, too. */
static inline int
swap(int64_t *word, int64_t from, int64_t to)
{
    return _InterlockedCompareExchange64((volatile __int64 *)word, to, from) == from;
}

static inline int64_t
get(int64_t *word)
{
    return _InterlockedCompareExchange64((volatile __int64 *)word, 0, 0);
}

static inline void
set(int64_t *word, int64_t to)
{
    while (!swap(word, get(word), to)) {
    }
}

static inline void
add(int64_t *word, int64_t n)
{
    int64_t value;
    do {
        value = get(word);
    } while (!swap(word, value, value + n));
}

static inline void
note(int64_t *word, int64_t to)
{
    *(volatile int64_t *)word = to;
}

static inline unsigned long
peek(unsigned long *count)
{
    return *(volatile unsigned long *)count;
}

static inline void
note_count(unsigned long *count, unsigned long to)
{
    *(volatile unsigned long *)count = to;
}

static inline PyObject *
peek_object(PyObject **field)
{
    return *(PyObject *volatile *)field;
}

static inline void
note_object(PyObject **field, PyObject *to)
{
    *(PyObject *volatile *)field = to;
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

static inline void
set(int64_t *word, int64_t to)
{
    __atomic_store_n(word, to, __ATOMIC_SEQ_CST);
}

static inline void
add(int64_t *word, int64_t n)
{
    __atomic_fetch_add(word, n, __ATOMIC_SEQ_CST);
}

/* Store what only the thread that holds a lock stores, and other threads may read. */
static inline void
note(int64_t *word, int64_t to)
{
    __atomic_store_n(word, to, __ATOMIC_RELAXED);
}

/* Read such a count, and store one. */
static inline unsigned long
peek(unsigned long *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static inline void
note_count(unsigned long *count, unsigned long to)
{
    __atomic_store_n(count, to, __ATOMIC_RELAXED);
}

/* The same for a reference, which is stored in a critical section. Outside of one it may only be compared with an object
 * that the thread has a reference to, because the object that it points to may be freed at any time. */
static inline PyObject *
peek_object(PyObject **field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void
note_object(PyObject **field, PyObject *to)
{
    __atomic_store_n(field, to, __ATOMIC_RELAXED);
}
#  endif
/* A thread that finds a lock held lets other threads run for a while before it waits, unless others wait already: like
 * CPython's own mutex. Each look at the lock takes the word from the processor of the holder. So a thread looks four
 * times only, and each pause is twice as long as the one before. */
#  define FIRST_PAUSE 8  /* times that it lets others run before it looks again */
#  define LAST_PAUSE 64
#  ifdef _WIN32
#    define let_others_run() ((void)0)
#  else
#    include <sched.h>
#    define let_others_run() sched_yield()
#  endif
#  ifdef __SANITIZE_THREAD__
/* ThreadSanitizer can't see the locks of critical sections inside CPython, which is compiled without it; nor that the
 * last reference is gone, or that the collector has stopped all other threads. */
void __tsan_acquire(void *);
void __tsan_release(void *);
#    define ENTER(object) Py_BEGIN_CRITICAL_SECTION(object); void *entered = (object); __tsan_acquire(entered);
#    define LEAVE() __tsan_release(entered); Py_END_CRITICAL_SECTION()
#    define ALONE_WITH(object) __tsan_acquire(object), (void)get(&((Lock *)(object))->owner)
#  else
#    define ENTER(object) Py_BEGIN_CRITICAL_SECTION(object)
#    define LEAVE() Py_END_CRITICAL_SECTION()
#  endif
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

static inline void
set(int64_t *word, int64_t to)
{
    *word = to;
}

static inline void
add(int64_t *word, int64_t n)
{
    *word += n;
}

static inline void
note(int64_t *word, int64_t to)
{
    *word = to;
}

static inline unsigned long
peek(unsigned long *count)
{
    return *count;
}

static inline void
note_count(unsigned long *count, unsigned long to)
{
    *count = to;
}

static inline PyObject *
peek_object(PyObject **field)
{
    return *field;
}

static inline void
note_object(PyObject **field, PyObject *to)
{
    *field = to;
}
#  define ENTER(object) {
#  define LEAVE() }
#endif
#ifndef ALONE_WITH
#  define ALONE_WITH(object) ((void)0)
#endif

/* -- the state of the module -------------------------------------------------------------------------------------- */

/* The methods that `put` can make, in the order of `functions` below. */
enum {
    INCREMENT, DECREMENT, ADD, GET_AND_ADD, SET, GET_AND_SET, COMPARE_AND_SET,  /* of a counter */
    ENTER_LOCK, RELEASE, HOLD,                                                  /* of a lock */
    ENTER_HOLD,                                                                 /* of a token */
    ENTER_OBSERVED, ACQUIRE_OBSERVED, RELEASE_OBSERVED,                         /* of an observed lock */
    METHODS
};

typedef struct {
    PyTypeObject *counter;
    PyTypeObject *lock;
    PyTypeObject *hold;
    PyTypeObject *observed;
    PyTypeObject *entrance;
    PyObject *passed_over;       /* the folder whose code is not the program's, or NULL */
    PyObject *getframe;          /* sys._getframe, or NULL if that is not C */
    PyObject *one;
    int64_t goes_past;           /* tokens may go past the Python methods, because nothing observes these */
    PyObject *python[METHODS];   /* the Python method of the same name */
    PyMethodDef made[METHODS];   /* what the descriptors point to */
    char *texts[METHODS];        /* their signatures and docstrings */
} State;

static struct PyModuleDef module;

/* The state of the module that an object's type is from; NULL with an error if there is none any more. */
static State *
state_of(PyObject *self)
{
    PyObject *found = PyType_GetModuleByDef(Py_TYPE(self), &module);
    return found == NULL ? NULL : PyModule_GetState(found);
}

/* The garbage collector has taken the interpreter's last objects apart. */
static PyObject *
ended(void)
{
    PyErr_SetString(PyExc_RuntimeError, "syncprims has ended with its interpreter");
    return NULL;
}

/* Call the Python method. The caller has changed nothing. */
static PyObject *
in_python(PyObject *self, int method, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    State *state = state_of(self);
    if (state == NULL && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *python = state == NULL ? NULL : state->python[method];
    if (python == NULL) {
        return ended();
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
    return word >> 2;  /* every compiler that CPython supports keeps the sign */
}

static inline int64_t
word_of(int64_t value, int64_t marks)
{
    return (int64_t)((uint64_t)value << 2) | marks;
}

/* Whether it is an exact int that fits; any other object may run the user's code. */
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

/* Change the value if the fast path is open. Return the new reference, or NULL with *done for an error, or NULL
 * without it if Python has to do it. */
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

/* One argument, which is optional if `method` has a default for it. */
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

/* The error of a Python slot without a value. */
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

/* Store the value that Python has computed; see (2). */
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

/* True while the fast path is closed. It is False, and never None, while it is open: in Python a None opens the short
 * way of the Python methods, which would not notice changes by the core. */
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

/* A bound: an int, or an infinite float if there is none; limited to the range of the word. See (4). */
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
    /* A bound beyond the range allows no value. */
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
    {"value", counter_value, NULL, "The value right now; never blocks.", NULL},
    {"_value", counter_value, counter_set_value, "The value, as Python reads and stores it.", NULL},
    {"_special", counter_special, counter_set_special, "Whether the core's fast path is closed.", NULL},
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

/* -- the lock ----------------------------------------------------------------------------------------------------- */

#define HANDED 1  /* no thread has this ident */

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    int64_t owner;
    int64_t waiters;
    int64_t posted;
    int64_t starving;
    int64_t handed_by;
    PyThread_type_lock gate;
    unsigned long count;
    int64_t forks;    /* what `forks` was when the lock had a waiter last */
    int ways;         /* which fast paths leave out nothing that the Python class overrides */
    PyObject *token;  /* the last one that hold() returned, or NULL */
} Lock;

#define BY_WITH 1
#define BY_HOLD 2

/* The ident of the calling thread. CPython's function for it calls pthread_self() and does nothing else. Calling that
 * directly saves a tenth of a `with`; `module_exec` refuses the core if the two differ. */
static inline int64_t
me(void)
{
#ifdef _WIN32
    return (int64_t)PyThread_get_thread_ident();
#else
    return (int64_t)(unsigned long)pthread_self();
#endif
}

/* How many forks lead to this process, of those that Python has made. Only a forked child writes it, while it has one
 * thread. */
static int64_t forks;

/* In a forked child, the threads that waited for a lock do not exist, and one may have been passing its gate. So a
 * thread that waits, or finds waiters, checks whether the lock was waited for in another process. */
static void
forget_waiters(Lock *lock)
{
    if (get(&lock->forks) == get(&forks)) {
        return;
    }
    ENTER(lock);
    if (get(&lock->forks) != get(&forks)) {
        lock->gate = NULL;  /* left as it is */
        set(&lock->waiters, 0);
        set(&lock->posted, 0);
        set(&lock->starving, 0);
        swap(&lock->owner, HANDED, 0);
        set(&lock->forks, get(&forks));
    }
    LEAVE();
}

static int
has_waiters_still(Lock *lock)
{
    forget_waiters(lock);
    return get(&lock->waiters) != 0;
}

static inline int
has_waiters(Lock *lock)
{
    return get(&lock->waiters) != 0 && has_waiters_still(lock);
}

/* Acquire the lock if it is free. */
static inline int
take(Lock *lock, int64_t ident)
{
    if (get(&lock->owner) == 0 && swap(&lock->owner, 0, ident)) {
        note_count(&lock->count, 1);
        return 1;
    }
    return 0;
}

/* Acquire the lock if it is free or promised; only for a thread that is counted in `waiters`. */
static int
take_waiting(Lock *lock, int64_t ident, int passed)
{
    for (;;) {
        int64_t owner = get(&lock->owner);
        if (owner != 0 && (owner != HANDED || (!passed && get(&lock->handed_by) == ident))) {
            return 0;
        }
        if (swap(&lock->owner, owner, ident)) {
            note_count(&lock->count, 1);
            return 1;
        }
    }
}

/* Let through one thread that waits, or will wait. */
static void
open_gate(Lock *lock)
{
    if (swap(&lock->posted, 0, 1)) {
        PyThread_release_lock(lock->gate);
    }
}

/* Release the lock if `owner` still has it; false otherwise. */
static inline int
let_go_of(Lock *lock, int64_t owner)
{
    int64_t after = has_waiters(lock) && get(&lock->starving) ? HANDED : 0;
    if (after == HANDED) {
        set(&lock->handed_by, me());
    }
    if (!swap(&lock->owner, owner, after)) {
        return 0;
    }
    if (has_waiters(lock)) {
        open_gate(lock);
    }
    else if (after == HANDED) {
        swap(&lock->owner, HANDED, 0);
    }
    return 1;
}

/* Release the lock, which the calling thread has acquired once. */
static inline void
let_go(Lock *lock)
{
    int64_t after = has_waiters(lock) && get(&lock->starving) ? HANDED : 0;
    if (after == HANDED) {
        set(&lock->handed_by, me());
    }
    set(&lock->owner, after);
    if (has_waiters(lock)) {
        open_gate(lock);
    }
    else if (after == HANDED) {
        swap(&lock->owner, HANDED, 0);
    }
}

static double
seconds_now(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyTime_t now;
    return PyTime_MonotonicRaw(&now) < 0 ? 0.0 : PyTime_AsSecondsDouble(now);
#elif defined(_WIN32)
    return (double)GetTickCount64() * 1e-3;
#else
    struct timespec now;
    return clock_gettime(CLOCK_MONOTONIC, &now) ? 0.0 : (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
#endif
}

/* The gate, which the first thread that waits makes; NULL without memory. */
static PyThread_type_lock
gate_of(Lock *lock)
{
    PyThread_type_lock gate;
    ENTER(lock);
    gate = lock->gate;
    if (gate == NULL) {
        gate = PyThread_allocate_lock();
        if (gate != NULL) {
            PyThread_acquire_lock(gate, WAIT_LOCK);
            lock->gate = gate;
        }
    }
    LEAVE();
    return gate;
}

#define OVERTAKEN 0.001  /* seconds of waiting after which a thread that was overtaken asks for the lock */
#define LONGEST 1000.0   /* seconds of one sleep: all systems can do that */

/* Wait until the lock is acquired (1), the time is up (0), or a signal handler has raised (-1), if handlers may run.
 * Less than zero seconds mean forever. */
static int
wait_for(Lock *lock, int64_t ident, double seconds, int handlers)
{
    forget_waiters(lock);
    PyThread_type_lock gate = gate_of(lock);
    if (gate == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    double started = seconds_now();
    int outcome, passed = 0;
    int64_t process = get(&forks);
    add(&lock->waiters, 1);
    for (;;) {
        if (take_waiting(lock, ident, passed)) {
            outcome = 1;
            break;
        }
        double waited = seconds_now() - started;
        if (passed && waited > OVERTAKEN) {
            set(&lock->starving, 1);
        }
        double left = seconds < 0 ? LONGEST : seconds - waited;
        if (left <= 0) {
            outcome = 0;
            break;
        }
        PyLockStatus status;
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(gate, (PY_TIMEOUT_T)((left < LONGEST ? left : LONGEST) * 1e6) + 1, handlers);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED) {
            set(&lock->posted, 0);
            passed = 1;
        }
        else if (status == PY_LOCK_INTR) {
            outcome = Py_MakePendingCalls();
            if (get(&forks) != process) {  /* a handler has forked, and this is the child */
                process = get(&forks);
                forget_waiters(lock);
                add(&lock->waiters, 1);
                gate = gate_of(lock);
                if (gate == NULL && outcome == 0) {
                    PyErr_NoMemory();
                    outcome = -1;
                }
            }
            if (outcome < 0) {
                break;
            }
        }
    }
    if (outcome == 1) {
        set(&lock->starving, 0);
    }
    add(&lock->waiters, -1);
    /* If this thread has got the lock, this does something only if another one has released it since: see (6). */
    swap(&lock->owner, HANDED, 0);
    if (get(&lock->owner) == 0 && get(&lock->waiters) != 0) {
        open_gate(lock);
    }
    return outcome;
}

/* acquire(blocking=True, timeout=-1), like that of an RLock. */
static PyObject *
lock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Lock *lock = (Lock *)self;
    int64_t ident = me();
    int blocking = 1;
    double seconds = -1;
    if (kwnames != NULL || nargs > 2) {
        PyErr_SetString(PyExc_TypeError, "acquire() takes blocking and timeout by position");
        return NULL;
    }
    if (nargs > 0 && (blocking = PyObject_IsTrue(args[0])) < 0) {
        return NULL;
    }
    if (nargs > 1 && (seconds = PyFloat_AsDouble(args[1])) == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (get(&lock->owner) == ident) {
        if (lock->count + 1 < lock->count) {
            PyErr_SetString(PyExc_OverflowError, "Internal lock count overflowed");
            return NULL;
        }
        note_count(&lock->count, lock->count + 1);
        Py_RETURN_TRUE;
    }
    if (take(lock, ident)) {
        Py_RETURN_TRUE;
    }
    if (!blocking) {
        Py_RETURN_FALSE;
    }
    int outcome = wait_for(lock, ident, seconds, 1);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome);
}

/* Release it once; false if the calling thread does not have it. */
static inline int
released(Lock *lock)
{
    if (get(&lock->owner) != me()) {
        return 0;
    }
    unsigned long left = lock->count - 1;
    note_count(&lock->count, left);
    if (left == 0) {
        let_go(lock);
    }
    return 1;
}

static PyObject *
not_mine(void)
{
    PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
    return NULL;
}

/* release() of the base class, with which the Python class undoes; it calls nothing. */
static PyObject *
lock_release_base(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return released((Lock *)self) ? Py_NewRef(Py_None) : not_mine();
}

static PyObject *
lock_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return released((Lock *)self) ? Py_NewRef(Py_None) : not_mine();
}

/* release() of the Python class. */
static PyObject *
lock_release(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 0 && kwnames == NULL && released((Lock *)self)) {
        Py_RETURN_NONE;
    }
    return in_python(self, RELEASE, args, nargs, kwnames);
}

static inline int
take_if_free(Lock *lock)
{
    int64_t ident = me();
#ifdef Py_GIL_DISABLED
    for (int pause = FIRST_PAUSE; pause <= LAST_PAUSE; pause *= 2) {
        int64_t owner = get(&lock->owner);
        if (owner == 0 || owner == ident || get(&lock->waiters) != 0) {
            break;
        }
        for (int i = 0; i < pause; i++) {
            let_others_run();
        }
    }
#endif
    return take(lock, ident);
}

/* Whether one more call fits on the stack; else an error is set. Leaving may need that where entering did not: the
 * interpreter's fast calls do not count. So at the limit of recursion nothing is acquired that could not be released. */
static inline int
has_room(void)
{
    if (Py_EnterRecursiveCall(" while acquiring a lock")) {
        return 0;
    }
    Py_LeaveRecursiveCall();
    return 1;
}

/* __enter__() of the Python class. */
static PyObject *
lock_enter(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!has_room()) {
        return NULL;
    }
    if (nargs == 0 && kwnames == NULL && ((Lock *)self)->ways & BY_WITH && take_if_free((Lock *)self)) {
        return Py_NewRef(self);
    }
    return in_python(self, ENTER_LOCK, args, nargs, kwnames);
}

static PyObject *
lock_is_owned(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(get(&((Lock *)self)->owner) == me());
}

static PyObject *
lock_recursion_count(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Lock *lock = (Lock *)self;
    return PyLong_FromUnsignedLong(get(&lock->owner) == me() ? lock->count : 0);
}

/* For a `threading.Condition`: release it completely, and acquire it as often again. */
static PyObject *
lock_release_save(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Lock *lock = (Lock *)self;
    if (get(&lock->owner) != me()) {
        return not_mine();
    }
    PyObject *saved = PyLong_FromUnsignedLong(lock->count);
    if (saved != NULL) {
        note_count(&lock->count, 0);
        let_go(lock);
    }
    return saved;
}

static PyObject *
lock_acquire_restore(PyObject *self, PyObject *saved)
{
    Lock *lock = (Lock *)self;
    unsigned long count = PyLong_AsUnsignedLong(saved);
    if (count == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    int64_t ident = me();
    /* Like that of an RLock: nothing ends this wait, and handlers run afterwards. */
    if (!take(lock, ident) && wait_for(lock, ident, -1, 0) < 0) {
        return NULL;
    }
    note_count(&lock->count, count);
    Py_RETURN_NONE;
}

/* Make the lock free, whichever thread has it. */
static PyObject *
lock_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Lock *lock = (Lock *)self;
    if (get(&lock->owner) != 0) {
        note_count(&lock->count, 0);
        let_go(lock);
    }
    Py_RETURN_NONE;
}

/* For os.register_at_fork: this is a forked child. */
static PyObject *
note_fork(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    add(&forks, 1);
    Py_RETURN_NONE;
}

/* In a forked child no thread waits, and only the thread that forked can hold the lock. If a lock is free and had no
 * waiter, nothing is written, because the child copies every page of memory that it writes to. */
static void
repair(Lock *lock, int64_t forking)
{
    int64_t owner = lock->owner;
    if (lock->gate == NULL && !lock->waiters && !lock->posted && !lock->starving && (owner == 0 || owner == forking)) {
        return;
    }
    lock->gate = NULL;  /* vanished threads may be in the middle of using it, so it is left as it is */
    lock->waiters = lock->posted = lock->starving = 0;
    lock->forks = forks;
    if (owner != forking) {
        lock->owner = 0;
        note_count(&lock->count, 0);
    }
}

/* Repair the locks of these weak references. With the GIL it makes no new reference to a lock, which would write to it;
 * nothing here runs Python code, so no lock goes away. (Python 3.15 can't read a weak reference without a new one.) */
static PyObject *
locks_in_child(PyObject *self, PyObject *references)
{
    State *state = PyModule_GetState(self);
    PyObject *each, *iterator = PyObject_GetIter(references);
    if (iterator == NULL) {
        return NULL;
    }
    int64_t forking = me();
    while ((each = PyIter_Next(iterator)) != NULL) {
#if defined(Py_GIL_DISABLED) || PY_VERSION_HEX >= 0x030F0000
        PyObject *found = NULL;
        if (PyWeakref_GetRef(each, &found) > 0 && PyObject_TypeCheck(found, state->lock)) {
            repair((Lock *)found, forking);
        }
        Py_XDECREF(found);
#else
        PyObject *found = PyWeakref_GET_OBJECT(each);  /* None if it is gone */
        if (PyObject_TypeCheck(found, state->lock)) {
            repair((Lock *)found, forking);
        }
#endif
        Py_DECREF(each);
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* In the form of an RLock's. */
static PyObject *
lock_repr(PyObject *self)
{
    Lock *lock = (Lock *)self;
    int64_t owner = get(&lock->owner);
    return PyUnicode_FromFormat("<%s %s object owner=%lld count=%lu at %p>", owner ? "locked" : "unlocked",
                                Py_TYPE(self)->tp_name, (long long)(owner == HANDED ? 0 : owner),
                                owner ? peek(&lock->count) : 0, (void *)self);
}

static PyObject *
lock_ways(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(((Lock *)self)->ways);
}

static int
lock_set_ways(PyObject *self, PyObject *ways, void *Py_UNUSED(closure))
{
    if (ways == NULL) {
        return refuse_deleting("_ways");
    }
    long given = PyLong_AsLong(ways);
    if (given == -1 && PyErr_Occurred()) {
        return -1;
    }
    ((Lock *)self)->ways = (int)given;
    return 0;
}

/* The token, as a new reference, or NULL. */
static inline PyObject *
token_of(Lock *lock)
{
    PyObject *token;
    ENTER(lock);
    token = Py_XNewRef(lock->token);
    LEAVE();
    return token;
}

static PyObject *
lock_token(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *token = token_of((Lock *)self);
    return token != NULL ? token : Py_NewRef(Py_None);
}

static int
lock_set_token(PyObject *self, PyObject *token, void *Py_UNUSED(closure))
{
    State *state = state_of(self);
    if (state == NULL) {
        return -1;
    }
    if (token != NULL && token != Py_None && !PyObject_TypeCheck(token, state->hold)) {
        PyErr_SetString(PyExc_TypeError, "the token of a lock is one of the core's");
        return -1;
    }
    PyObject *before;
    ENTER(self);
    before = ((Lock *)self)->token;
    ((Lock *)self)->token = token == Py_None ? NULL : Py_XNewRef(token);
    LEAVE();
    Py_XDECREF(before);
    return 0;
}

static int
lock_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Lock *)self)->token);
    return 0;
}

static int
lock_clear(PyObject *self)
{
    Py_CLEAR(((Lock *)self)->token);
    return 0;
}

static void
lock_dealloc(PyObject *self)
{
    Lock *lock = (Lock *)self;
    PyTypeObject *type = Py_TYPE(self);
    ALONE_WITH(self);
    PyObject_GC_UnTrack(self);
    if (lock->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    lock_clear(self);
    if (lock->gate != NULL) {
        if (!lock->posted) {
            PyThread_release_lock(lock->gate);
        }
        PyThread_free_lock(lock->gate);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_FASTCALL | METH_KEYWORDS, "Like that of an RLock."},
    {"release", lock_release_base, METH_NOARGS, "Release the lock."},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL,
     "__exit__($self, /, *exc_info)\n--\n\nRelease the lock."},
    {"_is_owned", lock_is_owned, METH_NOARGS, "Whether the calling thread has the lock."},
    {"_recursion_count", lock_recursion_count, METH_NOARGS, "How often the calling thread has it."},
    {"_release_save", lock_release_save, METH_NOARGS, "Release the lock, however often it was acquired."},
    {"_acquire_restore", lock_acquire_restore, METH_O, "Acquire it as often as it was acquired before."},
    {"_at_fork_reinit", lock_at_fork_reinit, METH_NOARGS, "Make it free."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef lock_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Lock, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef lock_attributes[] = {
    {"_ways", lock_ways, lock_set_ways, "In which ways the core may acquire the lock without a Python method.", NULL},
    {"_token", lock_token, lock_set_token, "The last token that `hold` returned, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, "The lock below a `TimedLock`."},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_traverse, lock_traverse},
    {Py_tp_clear, lock_clear},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_members, lock_members},
    {Py_tp_getset, lock_attributes},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "syncprims._speedups.Lock",
    .basicsize = sizeof(Lock),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = lock_slots,
};

/* -- the token of hold() ------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *lock;     /* a Lock of the core's; set once, by the constructor */
    PyObject *timeout;  /* likewise */
    State *state;
} Hold;

/* hold() of the Python class: the kept token, if it is for this timeout. */
static PyObject *
lock_hold(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1 && kwnames == NULL) {
        PyObject *token = token_of((Lock *)self);
        if (token != NULL) {
            PyObject *kept = ((Hold *)token)->timeout;
            if (kept == args[0] || (PyFloat_CheckExact(kept) && PyFloat_CheckExact(args[0]) &&
                                    PyFloat_AS_DOUBLE(kept) == PyFloat_AS_DOUBLE(args[0]))) {
                return token;
            }
            Py_DECREF(token);
        }
    }
    return in_python(self, HOLD, args, nargs, kwnames);
}

static PyObject *
hold_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *lock, *timeout, *found = PyType_GetModuleByDef(type, &module);
    State *state = found == NULL ? NULL : PyModule_GetState(found);
    if (state == NULL) {
        return NULL;
    }
    if (state->lock == NULL) {
        return ended();
    }
    if (!PyArg_ParseTuple(args, "O!O:Hold", state->lock, &lock, &timeout)) {
        return NULL;
    }
    Hold *hold = (Hold *)type->tp_alloc(type, 0);
    if (hold != NULL) {
        hold->lock = Py_NewRef(lock);
        hold->timeout = Py_NewRef(timeout);
        hold->state = state;
    }
    return (PyObject *)hold;
}

/* Whether the token may acquire and release the lock by itself. */
static inline int
goes_past(Hold *hold)
{
    return get(&hold->state->goes_past) && ((Lock *)hold->lock)->ways & BY_HOLD;
}

/* __enter__() of the Python class. */
static PyObject *
hold_enter(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!has_room()) {
        return NULL;
    }
    Hold *hold = (Hold *)self;
    if (nargs == 0 && kwnames == NULL && goes_past(hold) && take_if_free((Lock *)hold->lock)) {
        return Py_NewRef(hold->lock);
    }
    return in_python(self, ENTER_HOLD, args, nargs, kwnames);
}

/* __exit__(): the lock's. */
static PyObject *
hold_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Hold *hold = (Hold *)self;
    if (goes_past(hold)) {
        return released((Lock *)hold->lock) ? Py_NewRef(Py_None) : not_mine();
    }
    PyObject *leave = PyObject_GetAttrString(hold->lock, "__exit__");
    if (leave == NULL) {
        return NULL;
    }
    PyObject *answer = PyObject_Vectorcall(leave, args, (size_t)nargs, NULL);
    Py_DECREF(leave);
    return answer;
}

static int
hold_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Hold *)self)->lock);
    Py_VISIT(((Hold *)self)->timeout);
    return 0;
}

/* A cycle through a token goes through the `token` of its lock, which is cleared there. So a token that can be reached
 * always has its lock. */
static void
hold_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((Hold *)self)->lock);
    Py_XDECREF(((Hold *)self)->timeout);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef hold_methods[] = {
    {"__exit__", (PyCFunction)(void (*)(void))hold_exit, METH_FASTCALL,
     "__exit__($self, /, *exc_info)\n--\n\nRelease the lock."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef hold_members[] = {
    {"_lock", T_OBJECT_EX, offsetof(Hold, lock), READONLY, "The lock."},
    {"timeout", T_OBJECT_EX, offsetof(Hold, timeout), READONLY, "How long a `with` waits, in seconds."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot hold_slots[] = {
    {Py_tp_doc, "The lock and the timeout of a token of `hold`."},
    {Py_tp_new, hold_new},
    {Py_tp_dealloc, hold_dealloc},
    {Py_tp_traverse, hold_traverse},
    {Py_tp_methods, hold_methods},
    {Py_tp_members, hold_members},
    {0, NULL},
};

static PyType_Spec hold_spec = {
    .name = "syncprims._speedups.Hold",
    .basicsize = sizeof(Hold),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = hold_slots,
};

/* -- an observed lock --------------------------------------------------------------------------------------------- */

/* It begins like a Lock, and uses the same word and gate. It counts nothing, because its owner can't acquire it again. */
typedef struct {
    Lock lock;
    PyObject *taken_in;  /* the code that acquired it last, or NULL */
    int64_t taken_at;    /* the byte offset of the instruction there */
    int64_t by_with;     /* whether that was by __enter__ */
    State *state;        /* set once, by the constructor */
} Observed;

static PyObject *
observed_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *found = PyType_GetModuleByDef(type, &module);
    Observed *observed = found == NULL ? NULL : (Observed *)type->tp_alloc(type, 0);
    if (observed != NULL) {
        observed->state = PyModule_GetState(found);
    }
    return (PyObject *)observed;
}

/* The code that calls this function, as a new reference, or NULL; and its instruction. */
static inline PyObject *
calling_code(int64_t *at)
{
#if PY_VERSION_HEX < 0x030C0000
    PyFrameObject *frame = PyEval_GetFrame();
    if (frame == NULL) {
        return NULL;
    }
    *at = PyFrame_GetLasti(frame);
    return (PyObject *)PyFrame_GetCode(frame);
#else
#  if PY_VERSION_HEX < 0x030D0000
    struct _PyInterpreterFrame *frame = PyThreadState_Get()->cframe->current_frame;
#  else
    struct _PyInterpreterFrame *frame = PyThreadState_Get()->current_frame;
#  endif
    if (frame == NULL) {
        return NULL;
    }
    PyObject *code = PyUnstable_InterpreterFrame_GetCode(frame);
    if (!PyCode_Check(code)) {  /* there is no Python code */
        Py_DECREF(code);
        return NULL;
    }
    *at = PyUnstable_InterpreterFrame_GetLasti(frame);
    return code;
#endif
}

/* The same if Python code of the watch may be in between. */
static PyObject *
programs_code(PyObject *self, int64_t *at)
{
    PyObject *folder = ((Observed *)self)->state->passed_over, *code = NULL;
    PyFrameObject *frame = (PyFrameObject *)Py_XNewRef((PyObject *)PyEval_GetFrame());
    while (frame != NULL) {
        code = (PyObject *)PyFrame_GetCode(frame);
        PyObject *file = ((PyCodeObject *)code)->co_filename;
        if (folder == NULL || PyUnicode_Tailmatch(file, folder, 0, PY_SSIZE_T_MAX, -1) <= 0) {
            *at = PyFrame_GetLasti(frame);
            break;
        }
        Py_CLEAR(code);
        PyFrameObject *outer = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = outer;
    }
    Py_XDECREF(frame);
    return code;
}

/* A Python function reads an attribute, and that calls this. Return the code that called the Python function, if that
 * code has acquired this lock before; otherwise NULL, with an error if an interrupt came in an audit hook. Only the
 * frame of that code becomes an object. */
static PyObject *
same_code(Observed *self, int64_t *at)
{
#if PY_VERSION_HEX < 0x030E0000 || PY_VERSION_HEX >= 0x030F0000
    return NULL;  /* only 3.14 enters by reading an attribute */
#else
    State *state = self->state;
    if (state->getframe == NULL) {
        return NULL;
    }
    PyObject *args[] = {NULL, state->one};
    PyObject *frame = PyObject_Vectorcall(state->getframe, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (frame == NULL) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_Clear();
        }
        return NULL;
    }
    PyObject *code = (PyObject *)PyFrame_GetCode((PyFrameObject *)frame);
    *at = PyFrame_GetLasti((PyFrameObject *)frame);
    Py_DECREF(frame);
    PyObject *known;
    ENTER(self);
    known = self->taken_in;  /* which lives as long as `code`, if it is the same */
    LEAVE();
    if (code != known) {
        Py_CLEAR(code);
    }
    return code;
#endif
}

/* Note where the calling thread, which has the lock, acquired it. This steals the reference to the code. The code that
 * was noted before may be freed; if a weak reference to it calls a function then, that runs while the lock is held. */
static inline void
note_place(Observed *self, PyObject *code, int64_t at, int by_with)
{
    note(&self->by_with, by_with);
    note(&self->taken_at, at);
    if (peek_object(&self->taken_in) == code) {
        Py_XDECREF(code);
        return;
    }
    PyObject *before;
    ENTER(self);
    before = self->taken_in;
    note_object(&self->taken_in, code);
    LEAVE();
    Py_XDECREF(before);
}

/* __enter__() of the Python class. */
static PyObject *
observed_enter(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!has_room()) {
        return NULL;
    }
    if (nargs == 0 && kwnames == NULL && take_if_free((Lock *)self)) {
        int64_t at = 0;
        PyObject *code = calling_code(&at);
        note_place((Observed *)self, code, at, 1);
        Py_RETURN_TRUE;
    }
    return in_python(self, ENTER_OBSERVED, args, nargs, kwnames);
}

/* Python acquires the lock by reading `_entered` or `_acquired`: an interrupt may come after a call, but not after
 * reading an attribute. An interrupt in an audit hook comes before the lock is acquired. */
static PyObject *
observed_taken(PyObject *self, void *by_with)
{
    int64_t at = 0;
    PyObject *code = same_code((Observed *)self, &at);  /* before, because it may call an audit hook */
    if (code == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (take_if_free((Lock *)self)) {
        if (code == NULL) {
            code = programs_code(self, &at);
        }
        note_place((Observed *)self, code, at, by_with != NULL);
        Py_RETURN_TRUE;
    }
    Py_XDECREF(code);
    Py_RETURN_FALSE;
}

/* acquire() of the Python class. */
static PyObject *
observed_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (!has_room()) {
        return NULL;
    }
    if (kwnames == NULL && (nargs == 0 || (nargs == 1 && (args[0] == Py_True || args[0] == Py_False)))) {
        if (take_if_free((Lock *)self)) {
            int64_t at = 0;
            PyObject *code = calling_code(&at);
            note_place((Observed *)self, code, at, 0);
            Py_RETURN_TRUE;
        }
        if (nargs == 1 && args[0] == Py_False) {
            Py_RETURN_FALSE;
        }
    }
    return in_python(self, ACQUIRE_OBSERVED, args, nargs, kwnames);
}

/* _take(by_with, blocking, timeout): acquire it, or wait; the arguments have been checked. */
static PyObject *
observed_take(PyObject *self, PyObject *args)
{
    Lock *lock = (Lock *)self;
    int by_with, blocking;
    double seconds;
    if (!PyArg_ParseTuple(args, "ppd:_take", &by_with, &blocking, &seconds)) {
        return NULL;
    }
    if (!take_if_free(lock)) {
        int outcome = blocking ? wait_for(lock, me(), seconds, 1) : 0;
        if (outcome <= 0) {
            return outcome < 0 ? NULL : Py_NewRef(Py_False);
        }
    }
    int64_t at = 0;
    PyObject *code = programs_code(self, &at);
    note_place((Observed *)self, code, at, by_with);
    Py_RETURN_TRUE;
}

/* Release it, whichever thread has acquired it. Return 1, or 2 if that was another thread, or 0 if it was free. */
static inline int
release_observed(Lock *lock)
{
    int64_t ident = me();
    for (;;) {
        int64_t owner = get(&lock->owner);
        if (owner == 0 || owner == HANDED) {
            return 0;
        }
        if (let_go_of(lock, owner)) {
            return owner == ident ? 1 : 2;
        }
    }
}

static PyObject *
leave_observed(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    switch (release_observed((Lock *)self)) {
    case 0:
        return in_python(self, RELEASE_OBSERVED, args, nargs, kwnames);
    case 1:
        Py_RETURN_NONE;
    default:
        return PyObject_CallMethod(self, "_note_foreign", NULL);
    }
}

/* release() of the Python class. */
static PyObject *
observed_release(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 0 && kwnames == NULL) {
        return leave_observed(self, args, nargs, kwnames);
    }
    return in_python(self, RELEASE_OBSERVED, args, nargs, kwnames);
}

static PyObject *
observed_exit(PyObject *self, PyObject *const *args, Py_ssize_t Py_UNUSED(nargs))
{
    return leave_observed(self, args, 0, NULL);
}

/* Release it without calling a Python method. */
static PyObject *
observed_let_go(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (release_observed((Lock *)self)) {
        Py_RETURN_NONE;
    }
    PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
    return NULL;
}

static PyObject *
observed_locked(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(get(&((Lock *)self)->owner) != 0);
}

static PyObject *
observed_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    forget_waiters((Lock *)self);
    release_observed((Lock *)self);
    Py_RETURN_NONE;
}

/* The ident of the thread that has it, or 0. */
static PyObject *
observed_taker(PyObject *self, void *Py_UNUSED(closure))
{
    int64_t owner = get(&((Lock *)self)->owner);
    return PyLong_FromLongLong(owner == HANDED ? 0 : owner);
}

/* The same if it was acquired by acquire(); otherwise 0. */
static PyObject *
observed_acquirer(PyObject *self, void *closure)
{
    return get(&((Observed *)self)->by_with) ? PyLong_FromLong(0) : observed_taker(self, closure);
}

/* (code, byte offset) of the last acquisition, or None. */
static PyObject *
observed_place(PyObject *self, void *Py_UNUSED(closure))
{
    Observed *observed = (Observed *)self;
    PyObject *code;
    int64_t at;
    ENTER(self);
    code = Py_XNewRef(observed->taken_in);
    at = get(&observed->taken_at);
    LEAVE();
    return code == NULL ? Py_NewRef(Py_None) : Py_BuildValue("(NL)", code, (long long)at);
}

/* pass_over(folder) */
static PyObject *
pass_over(PyObject *self, PyObject *folder)
{
    if (!PyUnicode_Check(folder)) {
        PyErr_SetString(PyExc_TypeError, "a folder is a str");
        return NULL;
    }
    Py_XSETREF(((State *)PyModule_GetState(self))->passed_over, Py_NewRef(folder));
    Py_RETURN_NONE;
}

static int
observed_traverse(PyObject *self, visitproc visit, void *arg)
{
    ALONE_WITH(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Observed *)self)->taken_in);
    return 0;
}

static void
observed_dealloc(PyObject *self)
{
    Observed *observed = (Observed *)self;
    ALONE_WITH(self);
    PyObject_GC_UnTrack(self);
    PyObject *code = observed->taken_in;
    note_object(&observed->taken_in, NULL);
    Py_XDECREF(code);
    lock_dealloc(self);
}

static PyMethodDef observed_methods[] = {
    {"_take", observed_take, METH_VARARGS, "Acquire the lock, or wait."},
    {"_release", observed_let_go, METH_NOARGS, "Release the lock."},
    {"__exit__", (PyCFunction)(void (*)(void))observed_exit, METH_FASTCALL,
     "__exit__($self, /, *exc_info)\n--\n\nRelease the lock."},
    {"locked", observed_locked, METH_NOARGS, "Whether any thread has it."},
    {"_at_fork_reinit", observed_at_fork_reinit, METH_NOARGS, "Make it free."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef observed_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Lock, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef observed_attributes[] = {
    {"_entered", observed_taken, NULL, "Acquire the lock for a `with`, if it is free; whether it was.", (void *)"with"},
    {"_acquired", observed_taken, NULL, "The same for `acquire`.", NULL},
    {"_taker", observed_taker, NULL, "The ident of the thread that has it, or 0.", NULL},
    {"_acquirer", observed_acquirer, NULL, "The same if that was by `acquire`, else 0.", NULL},
    {"_place", observed_place, NULL, "Which instruction of which code acquired it last.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot observed_slots[] = {
    {Py_tp_doc, "The lock below the observed one of a watch."},
    {Py_tp_new, observed_new},
    {Py_tp_dealloc, observed_dealloc},
    {Py_tp_traverse, observed_traverse},
    {Py_tp_methods, observed_methods},
    {Py_tp_members, observed_members},
    {Py_tp_getset, observed_attributes},
    {0, NULL},
};

static PyType_Spec observed_spec = {
    .name = "syncprims._speedups.Observed",
    .basicsize = sizeof(Observed),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = observed_slots,
};

/* -- entering a lock ---------------------------------------------------------------------------------------------- */

/* `__enter__` in the class: the core's function for the `with` of a plain lock, otherwise the Python method. An
 * interrupt may come after a call of C, but not after one of Python. So a subclass that overrides `__enter__` and calls
 * the inherited one has to get Python's, or an interrupt could leave the lock acquired. */
typedef struct {
    PyObject_HEAD
    PyObject *module;
    PyObject *python;
    PyMethodDef *made;
} Entrance;

static PyObject *
entrance_get(PyObject *self, PyObject *lock, PyObject *Py_UNUSED(type))
{
    Entrance *entrance = (Entrance *)self;
    if (lock == NULL || lock == Py_None) {
        return Py_NewRef(entrance->python);
    }
    State *state = PyModule_GetState(entrance->module);
    if (PyObject_TypeCheck(lock, state->lock) && ((Lock *)lock)->ways & BY_WITH) {
        return PyCFunction_NewEx(entrance->made, lock, NULL);
    }
    return PyMethod_New(entrance->python, lock);
}

/* What looks into the class finds this object, and takes what can't be called for no method. */
static PyObject *
entrance_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return PyObject_Call(((Entrance *)self)->python, args, kwargs);
}

static int
entrance_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Entrance *)self)->module);
    Py_VISIT(((Entrance *)self)->python);
    return 0;
}

static void
entrance_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(((Entrance *)self)->module);
    Py_DECREF(((Entrance *)self)->python);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot entrance_slots[] = {
    {Py_tp_doc, "The `__enter__` of a lock: the core's for a `with`, otherwise Python's."},
    {Py_tp_dealloc, entrance_dealloc},
    {Py_tp_traverse, entrance_traverse},
    {Py_tp_descr_get, entrance_get},
    {Py_tp_call, entrance_call},
    {0, NULL},
};

static PyType_Spec entrance_spec = {
    .name = "syncprims._speedups.Entrance",
    .basicsize = sizeof(Entrance),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = entrance_slots,
};

/* entrance(): make the `__enter__` of the class that the core's function was put into, once a subclass needs it. */
static PyObject *
entrance(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    State *state = PyModule_GetState(self);
    if (state->python[ENTER_LOCK] == NULL) {
        return PyErr_Format(PyExc_RuntimeError, "__enter__ has not been put into a class");
    }
    Entrance *entrance = PyObject_GC_New(Entrance, state->entrance);
    if (entrance != NULL) {
        entrance->module = Py_NewRef(self);
        entrance->python = Py_NewRef(state->python[ENTER_LOCK]);
        entrance->made = &state->made[ENTER_LOCK];
        PyObject_GC_Track(entrance);
    }
    return (PyObject *)entrance;
}

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
    [ENTER_LOCK] = {"__enter__", lock_enter},
    [RELEASE] = {"release", lock_release},
    [HOLD] = {"hold", lock_hold},
    [ENTER_HOLD] = {"__enter__", hold_enter},
    [ENTER_OBSERVED] = {"__enter__", observed_enter},
    [ACQUIRE_OBSERVED] = {"acquire", observed_acquire},
    [RELEASE_OBSERVED] = {"release", observed_release},
};

/* The core's type below a class, of those whose methods are in this range of `functions`; NULL with an error. */
static PyTypeObject *
base_of(State *state, PyTypeObject *type, int *first, int *end)
{
    if (PyType_IsSubtype(type, state->counter)) {
        *first = INCREMENT, *end = ENTER_LOCK;
        return state->counter;
    }
    if (PyType_IsSubtype(type, state->lock)) {
        *first = ENTER_LOCK, *end = ENTER_HOLD;
        return state->lock;
    }
    if (PyType_IsSubtype(type, state->hold)) {
        *first = ENTER_HOLD, *end = ENTER_OBSERVED;
        return state->hold;
    }
    if (PyType_IsSubtype(type, state->observed)) {
        *first = ENTER_OBSERVED, *end = METHODS;
        return state->observed;
    }
    PyErr_Format(PyExc_TypeError, "%R is not derived from a type of the core", type);
    return NULL;
}

static PyObject *
set_method(PyTypeObject *type, PyMethodDef *method)
{
    PyObject *descriptor = PyDescr_NewMethod(type, method);
    int failed = descriptor == NULL || PyObject_SetAttrString((PyObject *)type, method->ml_name, descriptor);
    Py_XDECREF(descriptor);
    return failed ? NULL : Py_NewRef(Py_None);
}

/* put(cls, name, text): replace the Python method of this name in a class by the core's method. The text is its
 * signature and docstring, in the form of `__text_signature__`. */
static PyObject *
put(PyObject *self, PyObject *args)
{
    State *state = PyModule_GetState(self);
    PyTypeObject *type;
    const char *name, *text;
    int i, end;
    if (!PyArg_ParseTuple(args, "O!ss:put", &PyType_Type, &type, &name, &text) || !base_of(state, type, &i, &end)) {
        return NULL;
    }
    for (; i < end; i++) {
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
        return set_method(type, &state->made[i]);
    }
    return PyErr_Format(PyExc_ValueError, "the core has no method %s for %R", name, type);
}

/* own(cls, name): give the class its own copy of a method that it inherits from the core's type. */
static PyObject *
own(PyObject *self, PyObject *args)
{
    PyTypeObject *type, *base;
    const char *name;
    int first, end;
    if (!PyArg_ParseTuple(args, "O!s:own", &PyType_Type, &type, &name) ||
        (base = base_of(PyModule_GetState(self), type, &first, &end)) == NULL) {
        return NULL;
    }
    for (PyMethodDef *each = base->tp_methods; each != NULL && each->ml_name != NULL; each++) {
        if (!strcmp(each->ml_name, name)) {
            return set_method(type, each);
        }
    }
    return PyErr_Format(PyExc_ValueError, "%R has no method %s", base, name);
}

/* let_tokens_pass(bool): whether tokens may go past the Python methods of the locks. */
static PyObject *
let_tokens_pass(PyObject *self, PyObject *pass)
{
    State *state = PyModule_GetState(self);
    set(&state->goes_past, pass == Py_True);
    Py_RETURN_NONE;
}

/* -- the module --------------------------------------------------------------------------------------------------- */

static PyMethodDef module_functions[] = {
    {"put", put, METH_VARARGS, "Put the core's method into a class, in the place of the Python method of this name."},
    {"own", own, METH_VARARGS, "Give a class its own copy of a method that it inherits from the core."},
    {"entrance", entrance, METH_NOARGS, "Make the `__enter__` of a class of which a subclass has to get Python's."},
    {"let_tokens_pass", let_tokens_pass, METH_O, "Whether tokens may go past the Python methods of the locks."},
    {"pass_over", pass_over, METH_O, "Treat no code of the files in this folder as the program's."},
    {"note_fork", note_fork, METH_NOARGS, "Take note that this is a forked child."},
    {"locks_in_child", locks_in_child, METH_O, "Repair the locks of these weak references in a forked child."},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *self)
{
    State *state = PyModule_GetState(self);
    if (Py_Version >> 16 != PY_VERSION_HEX >> 16) {
        PyErr_SetString(PyExc_ImportError, "the core was compiled for another version of Python");
        return -1;
    }
    if (me() != (int64_t)PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_ImportError, "this Python has other idents of threads than the core");
        return -1;
    }
    state->counter = (PyTypeObject *)PyType_FromModuleAndSpec(self, &counter_spec, NULL);
    if (state->counter == NULL || PyModule_AddObjectRef(self, "Counter", (PyObject *)state->counter) < 0) {
        return -1;
    }
    state->lock = (PyTypeObject *)PyType_FromModuleAndSpec(self, &lock_spec, NULL);
    if (state->lock == NULL || PyModule_AddObjectRef(self, "Lock", (PyObject *)state->lock) < 0) {
        return -1;
    }
    state->hold = (PyTypeObject *)PyType_FromModuleAndSpec(self, &hold_spec, NULL);
    if (state->hold == NULL || PyModule_AddObjectRef(self, "Hold", (PyObject *)state->hold) < 0) {
        return -1;
    }
    state->observed = (PyTypeObject *)PyType_FromModuleAndSpec(self, &observed_spec, NULL);
    if (state->observed == NULL || PyModule_AddObjectRef(self, "Observed", (PyObject *)state->observed) < 0) {
        return -1;
    }
    state->entrance = (PyTypeObject *)PyType_FromModuleAndSpec(self, &entrance_spec, NULL);
    if (state->entrance == NULL || (state->one = PyLong_FromLong(1)) == NULL) {
        return -1;
    }
    PyObject *getframe = PySys_GetObject("_getframe");
    if (getframe != NULL && PyCFunction_Check(getframe)) {
        state->getframe = Py_NewRef(getframe);
    }
    return PyModule_AddIntConstant(self, "REVISION", REVISION);
}

static int
module_traverse(PyObject *self, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(self);
    if (state != NULL) {
        Py_VISIT(state->counter);
        Py_VISIT(state->lock);
        Py_VISIT(state->hold);
        Py_VISIT(state->observed);
        Py_VISIT(state->entrance);
        Py_VISIT(state->getframe);
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
        Py_CLEAR(state->passed_over);
        Py_CLEAR(state->getframe);
        Py_CLEAR(state->one);
        Py_CLEAR(state->lock);
        Py_CLEAR(state->hold);
        Py_CLEAR(state->observed);
        Py_CLEAR(state->entrance);
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
