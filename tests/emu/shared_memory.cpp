// Shared memory: every resident block has an arena, in which its variables lie between red zones.
//
//   [sync objects][red zone][dynamic part][red zone][first SHARED variable][red zone][second] ...
//
// A piece starts as NaNs (0xff bytes), so a read before the first write shows in the result. Red zones are poisoned for
// AddressSanitizer, and have a pattern that is checked when the block ends.
#include "emu/machine.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace emu
{

namespace
{

enum {
    red_zone = 64,
    piece_alignment = 16,
    default_limit = 99 * 1024, // sm_86
    max_limit = 227 * 1024,    // sm_90
    object_size = 8,           // of a sync object: ThreadSanitizer's granule
    barrier_objects = 2,       // one per phase, even and odd
    warp_objects = max_warps * warp_size * 2,
    objects_size = (barrier_objects + warp_objects) * object_size,
    arena_size = objects_size + max_limit + max_shared_pieces * (red_zone + piece_alignment) + red_zone
};

const unsigned char unwritten = 0xff, red = 0xcd;

size_t limit = default_limit;

char *map_arena()
{
    void *mapping = mmap(nullptr, arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        std::perror("kernel emulator: cannot map memory for a block");
        std::abort();
    }
    return static_cast<char *>(mapping);
}

size_t padded(size_t size)
{
    return (size + piece_alignment - 1) / piece_alignment * piece_alignment + red_zone;
}

// Room for `size` bytes and the red zone behind them.
char *add_piece(Arena &arena, const SharedVariable *variable, size_t size)
{
    char *begin = arena.base + arena.used;
    size_t whole = padded(size);
    unpoison(begin, whole);
    fill_bytes(begin, unwritten, size);
    fill_bytes(begin + size, red, whole - size);
    poison(begin, whole);
    unpoison(begin, size);
    arena.used += whole;
    arena.pieces[arena.n_pieces++] = {variable, begin, size};
    return begin;
}

bool is_red(const char *begin, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (static_cast<unsigned char>(begin[i]) != red)
            return false;
    return true;
}

} // namespace

void begin_arena(Arena &arena, size_t dynamic_bytes)
{
    // ThreadSanitizer must not take the variables of the next block for those of this one: fresh memory for each.
    if (arena.base != nullptr && under_tsan()) {
        munmap(arena.base, arena_size);
        arena.base = nullptr;
    }
    if (arena.base == nullptr)
        arena.base = map_arena();
    for (int i = 0; i < arena.n_pieces; i++)
        if (arena.pieces[i].variable != nullptr)
            arena.variables[arena.pieces[i].variable->id] = nullptr;
    arena.used = objects_size;
    arena.static_bytes = 0;
    arena.dynamic_bytes = dynamic_bytes;
    arena.n_pieces = 0;
    unpoison(arena.base + arena.used, red_zone);
    fill_bytes(arena.base + arena.used, red, red_zone);
    poison(arena.base + arena.used, arena_size - arena.used);
    arena.used += red_zone;
    add_piece(arena, nullptr, dynamic_bytes);
}

void end_arena(Arena &arena)
{
    if (!is_red(arena.base + objects_size, red_zone))
        note_error(cudaErrorLaunchFailure, "%s wrote before the beginning of its shared memory",
                   machine.launch->kernel_name);
    for (int i = 0; i < arena.n_pieces; i++) {
        const SharedPiece &piece = arena.pieces[i];
        bool intact = is_red(piece.begin + piece.size, padded(piece.size) - piece.size);
        if (!intact && piece.variable == nullptr)
            note_error(cudaErrorLaunchFailure,
                       "%s wrote past the end of its %zu bytes of dynamic shared memory",
                       machine.launch->kernel_name, piece.size);
        else if (!intact)
            note_error(cudaErrorLaunchFailure,
                       "%s:%d: %s wrote past the end of the shared variable '%s' (%zu bytes)",
                       piece.variable->where.file, piece.variable->where.line, machine.launch->kernel_name,
                       piece.variable->name, piece.size);
    }
}

void *dynamic_shared_memory()
{
    return running_fiber().block->arena.pieces[0].begin;
}

void *shared_memory(SharedVariable &variable)
{
    static int n_variables;
    Arena &arena = running_fiber().block->arena;
    if (variable.id < 0) {
        if (n_variables == max_shared_variables)
            diagnose(variable.where, "declares more than %d shared variables in one program",
                     int(max_shared_variables));
        variable.id = n_variables++;
    }
    void *&place = arena.variables[variable.id];
    if (place == nullptr) {
        arena.static_bytes += variable.size;
        if (arena.static_bytes > static_shared_limit)
            diagnose(variable.where, "needs %zu bytes of static shared memory with '%s', more than %d",
                     arena.static_bytes, variable.name, int(static_shared_limit));
        if (arena.static_bytes + arena.dynamic_bytes > limit)
            diagnose(variable.where, "needs %zu bytes of shared memory with '%s', more than the device's %zu",
                     arena.static_bytes + arena.dynamic_bytes, variable.name, limit);
        if (arena.n_pieces == max_shared_pieces)
            diagnose(variable.where, "declares more than %d shared variables", int(max_shared_pieces) - 1);
        place = add_piece(arena, &variable, variable.size);
    }
    return place;
}

bool in_shared_memory(const Arena &arena, const void *begin, size_t size)
{
    const char *p = static_cast<const char *>(begin);
    for (int i = 0; i < arena.n_pieces; i++) {
        const SharedPiece &piece = arena.pieces[i];
        if (p >= piece.begin && p + size <= piece.begin + piece.size)
            return true;
    }
    return false;
}

size_t shared_limit()
{
    return limit;
}

void set_shared_limit(size_t bytes)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    limit = bytes < max_limit ? bytes : size_t(max_limit);
}

void *barrier_object(Arena &arena, unsigned phase)
{
    return arena.base + phase % 2 * object_size;
}

void *warp_object(Arena &arena, int warp, int slot, unsigned phase)
{
    auto number = static_cast<unsigned>(warp * warp_size + slot) * 2 + phase % 2;
    return arena.base + (barrier_objects + number) * object_size;
}

} // namespace emu
