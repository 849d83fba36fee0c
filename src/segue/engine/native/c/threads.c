#include "threads.h"

#include <stdlib.h>

#define SPINS 4000 /* pauses, 10 to 60 microseconds */

static inline void pause_a_moment(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for(struct team *team, unsigned phase) {
    for (int n = 0; n < SPINS; n++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
        pause_a_moment();
    }
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->phase) == phase) pthread_cond_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->mutex);
}

void team_meet(struct team *team) {
    if (team->size == 1) {
        atomic_store_explicit(&team->claimed, 0, memory_order_relaxed);
        return;
    }
    const unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 < team->size) {
        wait_for(team, phase);
        return;
    }
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->claimed, 0, memory_order_relaxed);
    /* Both are sequentially consistent: who sleeps sees the phase, or is seen. */
    atomic_store(&team->phase, phase + 1);
    if (atomic_load(&team->sleepers) > 0) {
        pthread_mutex_lock(&team->mutex);
        pthread_cond_broadcast(&team->wake);
        pthread_mutex_unlock(&team->mutex);
    }
}

struct place {
    struct team *team;
    int thread;
};

static void *live(void *argument) {
    struct place place = *(struct place *)argument;
    free(argument);
    for (;;) {
        team_meet(place.team);
        if (atomic_load(&place.team->over)) return NULL;
        place.team->work(place.team->argument, place.thread);
        team_meet(place.team);
    }
}

void team_run(struct team *team) {
    team_meet(team);
    team->work(team->argument, 0);
    team_meet(team);
}

int team_start(struct team *team, int size, void (*work)(void *, int), void *argument) {
    int made = 1, failed = 0;
    *team = (struct team){.work = work, .argument = argument};
    team->threads = calloc((size_t)size, sizeof *team->threads);
    if (!team->threads) return -1;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    /* Nobody passes the first barrier before the last thread, the caller, comes to it. */
    team->size = size;
    for (; made < size && !failed; made++) {
        struct place *place = malloc(sizeof *place);
        if (!place) {
            failed = -1;
            break;
        }
        *place = (struct place){team, made};
        failed = pthread_create(&team->threads[made], NULL, live, place);
        if (failed) {
            free(place);
            break;
        }
    }
    if (failed) { /* those that are there wait for the missing ones, who are now said to be there */
        atomic_store(&team->over, 1);
        atomic_fetch_add(&team->arrived, size - made);
        team_meet(team);
        for (int n = 1; n < made; n++) pthread_join(team->threads[n], NULL);
        pthread_mutex_destroy(&team->mutex);
        pthread_cond_destroy(&team->wake);
        free(team->threads);
    }
    return failed;
}

void team_stop(struct team *team) {
    atomic_store(&team->over, 1);
    team_meet(team);
    for (int n = 1; n < team->size; n++) pthread_join(team->threads[n], NULL);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->wake);
    free(team->threads);
}
