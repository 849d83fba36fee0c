#include "threads.h"

#include <stdlib.h>

#define SPINS 4000 /* pauses, 10 to 60 microseconds */

static void wait_for(struct team *team, unsigned phase) {
    for (int n = 0; n < SPINS; n++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
        pause_a_moment();
    }
    lock_take(&team->lock);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->phase) == phase) condition_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->sleepers, 1);
    lock_release(&team->lock);
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
        lock_take(&team->lock);
        condition_wake_all(&team->wake);
        lock_release(&team->lock);
    }
}

struct place {
    struct team *team;
    int thread;
};

static void live(void *argument) {
    struct place place = *(struct place *)argument;
    free(argument);
    for (;;) {
        team_meet(place.team);
        if (atomic_load(&place.team->over)) return;
        place.team->work(place.team->argument, place.thread);
        team_meet(place.team);
    }
}

void team_run(struct team *team) {
    team_meet(team);
    team->work(team->argument, 0);
    team_meet(team);
}

static void drop(struct team *team, int made) {
    for (int n = 1; n < made; n++) thread_join(team->threads[n]);
    lock_drop(&team->lock);
    condition_drop(&team->wake);
    free(team->threads);
}

int team_start(struct team *team, int size, void (*work)(void *, int), void *argument) {
    int made = 1, failed = 0;
    *team = (struct team){.work = work, .argument = argument};
    team->threads = calloc((size_t)size, sizeof *team->threads);
    if (!team->threads) return -1;
    lock_make(&team->lock);
    condition_make(&team->wake);
    /* Nobody passes the first barrier before the last thread, the caller, comes to it. */
    team->size = size;
    for (; made < size && !failed; made++) {
        struct place *place = malloc(sizeof *place);
        if (!place) {
            failed = -1;
            break;
        }
        *place = (struct place){team, made};
        failed = thread_start(&team->threads[made], live, place);
        if (failed) {
            free(place);
            break;
        }
    }
    if (failed) { /* those that are there wait for the missing ones, who are now said to be there */
        atomic_store(&team->over, 1);
        atomic_fetch_add(&team->arrived, size - made);
        team_meet(team);
        drop(team, made);
    }
    return failed;
}

void team_stop(struct team *team) {
    atomic_store(&team->over, 1);
    team_meet(team);
    drop(team, team->size);
}
