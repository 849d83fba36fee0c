#include "portable.h"

#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <malloc.h>
#endif

#define ALIGNMENT 64

void *aligned_zeros(size_t bytes) {
    void *memory = NULL;
    if (bytes > (size_t)-1 / 2) return NULL;
    bytes = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
#if defined(_WIN32)
    memory = _aligned_malloc(bytes, ALIGNMENT);
#else
    if (posix_memalign(&memory, ALIGNMENT, bytes)) memory = NULL;
#endif
    if (memory) memset(memory, 0, bytes);
    return memory;
}

void aligned_free(void *memory) {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

struct start {
    void (*run)(void *);
    void *argument;
};

#if defined(_WIN32)
static DWORD WINAPI begin(LPVOID given) {
#else
static void *begin(void *given) {
#endif
    const struct start start = *(struct start *)given;
    free(given);
    start.run(start.argument);
    return 0;
}

int thread_start(thread_type *thread, void (*run)(void *), void *argument) {
    int failed;
    struct start *start = malloc(sizeof *start);
    if (!start) return -1;
    *start = (struct start){run, argument};
#if defined(_WIN32)
    *thread = CreateThread(NULL, 0, begin, start, 0, NULL);
    failed = *thread ? 0 : -1;
#else
    failed = pthread_create(thread, NULL, begin, start);
#endif
    if (failed) free(start);
    return failed;
}

#if defined(_WIN32)

void thread_join(thread_type thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
void lock_make(lock_type *lock) { InitializeSRWLock(lock); }
void lock_drop(lock_type *lock) { (void)lock; }
void lock_take(lock_type *lock) { AcquireSRWLockExclusive(lock); }
void lock_release(lock_type *lock) { ReleaseSRWLockExclusive(lock); }
void condition_make(condition_type *condition) { InitializeConditionVariable(condition); }
void condition_drop(condition_type *condition) { (void)condition; }
void condition_wait(condition_type *condition, lock_type *lock) {
    SleepConditionVariableSRW(condition, lock, INFINITE, 0);
}
void condition_wake_all(condition_type *condition) { WakeAllConditionVariable(condition); }

#else

void thread_join(thread_type thread) { pthread_join(thread, NULL); }
void lock_make(lock_type *lock) { pthread_mutex_init(lock, NULL); }
void lock_drop(lock_type *lock) { pthread_mutex_destroy(lock); }
void lock_take(lock_type *lock) { pthread_mutex_lock(lock); }
void lock_release(lock_type *lock) { pthread_mutex_unlock(lock); }
void condition_make(condition_type *condition) { pthread_cond_init(condition, NULL); }
void condition_drop(condition_type *condition) { pthread_cond_destroy(condition); }
void condition_wait(condition_type *condition, lock_type *lock) {
    pthread_cond_wait(condition, lock);
}
void condition_wake_all(condition_type *condition) { pthread_cond_broadcast(condition); }

#endif
