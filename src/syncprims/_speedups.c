/* The optional compiled core: the fast paths of a counter and of a lock, in C.
 *
 * If you read this for the first time: docs/explanation/compiled.rst explains its purpose and how it is built.
 *
 * What is here, and what is not
 * -----------------------------
 * Only the uncontended path of the most frequent calls. Waiting, hooks, updates, violated bounds, numbers that do not
 * fit a word, arguments that are not plain integers, a lock that is not free, and every error are in Python, in
 * _counter/atomic_counter.py and _locks/timed_lock.py. These are the whole implementation, and are complete without
 * this file; then the lock is CPython's own. `syncprims._core.speedups` chooses.
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
 *     gate       a lock of CPython's, closed (locked) unless a thread may pass; made for the first waiter
 *     count      how often the owner has acquired it; only the owner touches it
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
 *    HANDED instead of 0. Only a thread that is counted in `waiters` may acquire it then, and any of these may.
 * 4. HANDED must not be left without a waiter. A waiter that gives up subtracts itself from `waiters`, and then changes
 *    HANDED to 0. A thread that has stored HANDED reads `waiters` after that, and changes it to 0 if there are none. So
 *    the last of them does it, and after it the rule (1) holds for the threads that came in between.
 * 5. A thread gives up only if it has not passed the gate since it last read `owner`. So no opening is lost. A left-over
 *    opening makes the next waiter check once more than necessary.
 *
 * tests/locks/test_lock_protocol.py has these steps as a model, and runs all their interleavings.
 *
 * The functions that acquire the lock are not interrupted between that and their return. CPython decides what happens
 * between the return of `__enter__` and the body of a `with`: on 3.14 an interrupt may come there (gh-148874), and on
 * 3.15 if the code is traced. So from 3.14 on `__enter__` stays Python. `acquire` stays Python on all versions: an
 * interrupt may come between the return of a C function and the caller's `try`, but not after a Python method.
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

/* The version of the interface to Python; `_core/speedups.py` has the same number. Change both together. */
#define REVISION 3

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

static inline void
set(int64_t *word, int64_t to)
{
    _InterlockedExchange64((volatile __int64 *)word, to);
}

static inline void
add(int64_t *word, int64_t n)
{
    _InterlockedExchangeAdd64((volatile __int64 *)word, n);
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
#  endif
/* How long a thread spins on a held lock before it waits: about as long as a short block lasts. */
#  define SPINS 200
#  if defined(__x86_64__) || defined(__i386__)
#    define pause_a_little() __builtin_ia32_pause()
#  else
#    define pause_a_little() ((void)0)
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
#  define ENTER(object) {
#  define LEAVE() }
#endif

/* -- the state of the module -------------------------------------------------------------------------------------- */

/* The methods that `put` can make, in the order of `functions` below. */
enum { INCREMENT, DECREMENT, ADD, GET_AND_ADD, SET, GET_AND_SET, COMPARE_AND_SET, ENTER_LOCK, RELEASE, METHODS };

typedef struct {
    PyTypeObject *counter;
    PyTypeObject *lock;
    PyTypeObject *entrance;
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
    {"value", counter_value, NULL, "The value at this moment; never blocks.", NULL},
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
    PyThread_type_lock gate;
    unsigned long count;
    int plain;  /* the Python class has no hooks that a fast path would leave out */
} Lock;

static inline int64_t
me(void)
{
    return (int64_t)PyThread_get_thread_ident();
}

/* Acquire the lock if it is free. */
static inline int
take(Lock *lock, int64_t ident)
{
    if (get(&lock->owner) == 0 && swap(&lock->owner, 0, ident)) {
        lock->count = 1;
        return 1;
    }
    return 0;
}

/* Acquire the lock if it is free or promised; only for a thread that is counted in `waiters`. */
static int
take_waiting(Lock *lock, int64_t ident)
{
    for (;;) {
        int64_t owner = get(&lock->owner);
        if (owner != 0 && owner != HANDED) {
            return 0;
        }
        if (swap(&lock->owner, owner, ident)) {
            lock->count = 1;
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

/* Release the lock, which the calling thread has acquired once. */
static inline void
let_go(Lock *lock)
{
    if (get(&lock->waiters) == 0) {
        set(&lock->owner, 0);
    }
    else {
        set(&lock->owner, get(&lock->starving) ? HANDED : 0);
    }
    if (get(&lock->waiters) != 0) {
        open_gate(lock);
    }
    else {
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
    PyThread_type_lock gate = gate_of(lock);
    if (gate == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    double started = seconds_now();
    int outcome, passed = 0;
    add(&lock->waiters, 1);
    for (;;) {
        if (take_waiting(lock, ident)) {
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
        else if (status == PY_LOCK_INTR && Py_MakePendingCalls() < 0) {
            outcome = -1;
            break;
        }
    }
    if (outcome == 1) {
        set(&lock->starving, 0);
    }
    add(&lock->waiters, -1);
    if (outcome != 1) {
        swap(&lock->owner, HANDED, 0);
        if (get(&lock->owner) == 0 && get(&lock->waiters) != 0) {
            open_gate(lock);
        }
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
        lock->count++;
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
    if (--lock->count == 0) {
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
enter(Lock *lock)
{
    if (!lock->plain) {
        return 0;
    }
    int64_t ident = me();
#ifdef Py_GIL_DISABLED
    for (int i = 0; i < SPINS && get(&lock->owner) != 0 && get(&lock->owner) != ident; i++) {
        pause_a_little();
    }
#endif
    return take(lock, ident);
}

/* __enter__() of the Python class. */
static PyObject *
lock_enter(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 0 && kwnames == NULL && enter((Lock *)self)) {
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
        lock->count = 0;
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
    lock->count = count;
    Py_RETURN_NONE;
}

/* Make the lock free, whichever thread has it. */
static PyObject *
lock_at_fork_reinit(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Lock *lock = (Lock *)self;
    if (get(&lock->owner) != 0) {
        lock->count = 0;
        let_go(lock);
    }
    Py_RETURN_NONE;
}

/* In a forked child no thread waits, and only the thread that forked can hold the lock. A lock that is free and had no
 * waiter is only read, because the child copies every page of memory that it writes to. */
static void
repair(Lock *lock, int64_t forking)
{
    int64_t owner = lock->owner;
    if (lock->gate == NULL && !lock->waiters && !lock->posted && !lock->starving && (owner == 0 || owner == forking)) {
        return;
    }
    lock->gate = NULL;  /* vanished threads may be in the middle of using it, so it is left as it is */
    lock->waiters = lock->posted = lock->starving = 0;
    if (owner != forking) {
        lock->owner = 0;
        lock->count = 0;
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
                                owner ? lock->count : 0, (void *)self);
}

static PyObject *
lock_plain(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Lock *)self)->plain);
}

static int
lock_set_plain(PyObject *self, PyObject *plain, void *Py_UNUSED(closure))
{
    if (plain == NULL) {
        return refuse_deleting("_plain");
    }
    ((Lock *)self)->plain = plain == Py_True;
    return 0;
}

static void
lock_dealloc(PyObject *self)
{
    Lock *lock = (Lock *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (lock->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
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
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_FASTCALL | METH_KEYWORDS, "As an RLock's."},
    {"release", lock_release_base, METH_NOARGS, "Release the lock."},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, "Release the lock."},
    {"_is_owned", lock_is_owned, METH_NOARGS, "Whether the calling thread has the lock."},
    {"_recursion_count", lock_recursion_count, METH_NOARGS, "How often the calling thread has it."},
    {"_release_save", lock_release_save, METH_NOARGS, "Give up the lock, however often it was taken."},
    {"_acquire_restore", lock_acquire_restore, METH_O, "Take it back as often as it was taken."},
    {"_at_fork_reinit", lock_at_fork_reinit, METH_NOARGS, "Make it free."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef lock_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Lock, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef lock_attributes[] = {
    {"_plain", lock_plain, lock_set_plain, "Whether the core may take the lock without asking Python.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, "The lock below a `TimedLock`."},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_members, lock_members},
    {Py_tp_getset, lock_attributes},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "syncprims._speedups.Lock",
    .basicsize = sizeof(Lock),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = lock_slots,
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
    if (PyObject_TypeCheck(lock, state->lock) && ((Lock *)lock)->plain) {
        return PyCFunction_NewEx(entrance->made, lock, NULL);
    }
    return PyMethod_New(entrance->python, lock);
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
    {Py_tp_doc, "The `__enter__` of a lock: the core's in a `with`, else Python's."},
    {Py_tp_dealloc, entrance_dealloc},
    {Py_tp_traverse, entrance_traverse},
    {Py_tp_descr_get, entrance_get},
    {0, NULL},
};

static PyType_Spec entrance_spec = {
    .name = "syncprims._speedups.Entrance",
    .basicsize = sizeof(Entrance),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = entrance_slots,
};

static PyObject *
entrance_new(PyObject *module, int method)
{
    State *state = PyModule_GetState(module);
    Entrance *entrance = PyObject_GC_New(Entrance, state->entrance);
    if (entrance != NULL) {
        entrance->module = Py_NewRef(module);
        entrance->python = Py_NewRef(state->python[method]);
        entrance->made = &state->made[method];
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
};

/* put(cls, name, text): replace the Python method of this name in a class by the core's method. The text is its
 * signature and docstring, in the form of `__text_signature__`. */
static PyObject *
put(PyObject *self, PyObject *args)
{
    State *state = PyModule_GetState(self);
    PyTypeObject *type;
    const char *name, *text;
    if (!PyArg_ParseTuple(args, "O!ss:put", &PyType_Type, &type, &name, &text)) {
        return NULL;
    }
    for (int i = 0; i < METHODS; i++) {
        if (strcmp(functions[i].name, name)) {
            continue;
        }
        if (!PyType_IsSubtype(type, i < ENTER_LOCK ? state->counter : state->lock)) {
            return PyErr_Format(PyExc_TypeError, "%R is not derived from the core's type", type);
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
        PyObject *descriptor =
            i == ENTER_LOCK ? entrance_new(self, i) : PyDescr_NewMethod(type, &state->made[i]);
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
    {"locks_in_child", locks_in_child, METH_O, "Repair the locks of these weak references in a forked child."},
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
    state->lock = (PyTypeObject *)PyType_FromModuleAndSpec(self, &lock_spec, NULL);
    if (state->lock == NULL || PyModule_AddObjectRef(self, "Lock", (PyObject *)state->lock) < 0) {
        return -1;
    }
    state->entrance = (PyTypeObject *)PyType_FromModuleAndSpec(self, &entrance_spec, NULL);
    if (state->entrance == NULL) {
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
        Py_VISIT(state->lock);
        Py_VISIT(state->entrance);
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
        Py_CLEAR(state->lock);
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
