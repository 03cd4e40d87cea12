// Launches: makes blocks resident, lets their threads take turns, and retires the blocks.
//
// One host thread runs everything. A fiber that has to wait switches straight to the next ready one; the host's own
// context gets its turn when a block has ended, when nobody is ready (a deadlock), and after a diagnosis.
#include "emu/streams.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace emu
{

ThreadContext *current;
Machine machine;
std::recursive_mutex machine_mutex;

// ---- randomness

uint64_t random_number() // xorshift64*
{
    uint64_t &x = machine.random_state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return x * 0x2545f4914f6cdd1dull;
}

void set_seed(uint64_t seed)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    machine.seed = seed;
    machine.random_state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
}

uint64_t get_seed()
{
    return machine.seed;
}

namespace
{

struct SeedFromEnvironment {
    SeedFromEnvironment()
    {
        const char *text = std::getenv("EMU_SEED");
        set_seed(text != nullptr ? std::strtoull(text, nullptr, 10) : 0);
    }
} seed_from_environment;

} // namespace

Fiber *ReadyQueue::take()
{
    unsigned n = tail_ - head_;
    if (n == 0)
        return nullptr;
    if (seeded())
        std::swap(ring_[head_ % capacity], ring_[(head_ + random_number() % n) % capacity]);
    return ring_[head_++ % capacity];
}

// ---- taking turns

namespace
{

void fiber_main();

// Where to continue as `next`; the host when there is nobody.
Context &context_of(Fiber *next)
{
    current = next;
    if (next == nullptr)
        return machine.host;
    if (next->stack < 0)
        take_stack(*next, fiber_main);
    next->state = State::running;
    return next->context;
}

void fiber_main()
{
    arrive();
    for (;;) {
        Fiber &self = running_fiber();
        acquire(&machine.begin_object);
        machine.body(machine.arguments);
        release(&machine.end_object);
        thread_exits(self);
        Fiber *next = self.block->n_live == 0 ? nullptr : machine.ready.take();
        if (next != nullptr && next->state == State::fresh && !under_tsan()) {
            inherit_stack(self, *next); // and no switch at all
            next->state = State::running;
            current = next;
            continue;
        }
        // The stack is used until the switch, and nobody can take it before: the next fiber has one. (Under
        // ThreadSanitizer it goes back when the block is retired.)
        if (!under_tsan())
            return_stack(self);
        leave_context(context_of(next));
    }
}

} // namespace

void wait()
{
    Fiber &self = running_fiber();
    Fiber *next = machine.ready.take();
    if (next != &self)
        switch_context(self.context, context_of(next));
    self.state = State::running;
}

void wake(Fiber &fiber)
{
    fiber.state = State::ready;
    machine.ready.put(fiber);
}

static void give_way()
{
    wake(running_fiber());
    wait();
}

void maybe_give_way()
{
    if (seeded() && (random_number() >> 32 & 1) != 0)
        give_way();
}

void poll()
{
    enum { polls_per_turn = 16, max_idle_polls = 10 * 1000 * 1000 };
    if (current == nullptr)
        return; // host code that shares a function with a kernel
    if (++machine.idle_polls == max_idle_polls)
        diagnose({"", 0}, "polls for a word that no thread is going to change");
    if (++running_fiber().polls % polls_per_turn == 0)
        give_way();
    else
        maybe_give_way();
}

// ---- blocks

namespace
{

void make_resident(int slot, uint64_t number)
{
    if (machine.blocks[slot] == nullptr) {
        // Zeroed by the system and touched only as far as blocks are large.
        machine.blocks[slot] = static_cast<Block *>(std::calloc(1, sizeof(Block)));
        machine.blocks[slot]->fibers = static_cast<Fiber *>(std::calloc(max_block_threads, sizeof(Fiber)));
        machine.blocks[slot]->queues =
            static_cast<CopyQueue *>(std::calloc(max_block_threads, sizeof(CopyQueue)));
    }
    const Launch &launch = *machine.launch;
    const dim3 &size = launch.block;
    Block &block = *machine.blocks[slot];
    block.resident = true;
    block.index.x = static_cast<unsigned>(number % launch.grid.x);
    block.index.y = static_cast<unsigned>(number / launch.grid.x % launch.grid.y);
    block.index.z = static_cast<unsigned>(number / launch.grid.x / launch.grid.y);
    block.n_threads = block.n_live = static_cast<int>(size.x * size.y * size.z);
    block.barrier = Barrier();
    begin_arena(block.arena, launch.shared_bytes);
    for (int i = 0; i * warp_size < block.n_threads; i++) {
        int lanes = block.n_threads - i * warp_size;
        Warp &warp = block.warps[i];
        warp.exist = lanes >= warp_size ? 0xffffffffu : (1u << lanes) - 1;
        warp.exited = warp.pending_slots = 0;
    }
    for (int i = 0; i < block.n_threads; i++) {
        Fiber &fiber = block.fibers[i];
        unsigned n = static_cast<unsigned>(i);
        fiber.thread_index = {n % size.x, n / size.x % size.y, n / size.x / size.y};
        fiber.block_index = block.index;
        fiber.block_size = size;
        fiber.grid_size = launch.grid;
        fiber.lane = i % warp_size;
        fiber.block = &block;
        fiber.index = i;
        fiber.state = State::fresh;
        fiber.stack = -1;
        fiber.n_groups = fiber.first_copy = fiber.n_copies = 0;
        // A TSan fiber comes after whatever its creator has done before: the host has to make them all.
        if (under_tsan())
            take_stack(fiber, fiber_main);
        machine.ready.put(fiber);
    }
    release(&machine.begin_object);
}

void retire(Block &block)
{
    block.resident = false;
    for (int i = 0; i < block.n_threads; i++)
        if (block.fibers[i].stack >= 0)
            return_stack(block.fibers[i]);
    end_arena(block.arena);
}

// The order in which the blocks of a seeded launch start.
std::vector<uint64_t> block_order(uint64_t n_blocks)
{
    std::vector<uint64_t> order(n_blocks);
    for (uint64_t i = 0; i < n_blocks; i++)
        order[i] = i;
    for (uint64_t i = n_blocks; i > 1; i--)
        std::swap(order[i - 1], order[random_number() % i]);
    return order;
}

void run_blocks(uint64_t n_blocks, int max_resident)
{
    std::vector<uint64_t> order;
    if (seeded())
        order = block_order(n_blocks);
    uint64_t started = 0;
    int n_resident = 0;
    do {
        for (int slot = 0; slot < max_resident && started < n_blocks; slot++)
            if (machine.blocks[slot] == nullptr || !machine.blocks[slot]->resident) {
                make_resident(slot, seeded() ? order[started] : started);
                started++;
                n_resident++;
            }
        Fiber *next = machine.ready.take();
        if (next == nullptr) {
            diagnose_deadlock();
            return;
        }
        switch_context(machine.host, context_of(next));
        for (int slot = 0; slot < max_resident && !machine.failed; slot++)
            if (machine.blocks[slot] != nullptr && machine.blocks[slot]->resident &&
                machine.blocks[slot]->n_live == 0) {
                retire(*machine.blocks[slot]);
                n_resident--;
            }
    } while (!machine.failed && n_resident + (n_blocks - started) > 0);
}

// ---- the launch

uint64_t blocks_of(const Launch &launch)
{
    return uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
}

uint64_t threads_of(const Launch &launch)
{
    return uint64_t(launch.block.x) * launch.block.y * launch.block.z;
}

bool check(const Launch &launch, uint64_t n_blocks, uint64_t n_threads)
{
    const dim3 &grid = launch.grid, &block = launch.block;
    if (n_blocks == 0 || n_threads == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
        n_threads > max_block_threads || block.z > 64) {
        note_error(cudaErrorInvalidConfiguration,
                   "%s was launched with a grid of %u x %u x %u blocks of %u x %u x %u threads",
                   launch.kernel_name, grid.x, grid.y, grid.z, block.x, block.y, block.z);
        return false;
    }
    auto dynamic_limit = static_cast<size_t>(max_dynamic_shared(launch.kernel));
    if (launch.shared_bytes > dynamic_limit || launch.shared_bytes > shared_limit()) {
        note_error(cudaErrorInvalidValue,
                   "%s was launched with %zu bytes of dynamic shared memory: the device has %zu, and more "
                   "than %zu need "
                   "cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize)",
                   launch.kernel_name, launch.shared_bytes, shared_limit(), dynamic_limit);
        return false;
    }
    if (launch.cooperative && n_blocks > max_resident_blocks) {
        note_error(cudaErrorCooperativeLaunchTooLarge,
                   "%s was launched cooperatively with %llu blocks, of which %d can be resident",
                   launch.kernel_name, static_cast<unsigned long long>(n_blocks), int(max_resident_blocks));
        return false;
    }
    return true;
}

int resident_blocks(const Launch &launch, uint64_t n_blocks)
{
    enum { seeded_residents = 4 };
    uint64_t n = 1;
    if (launch.cooperative)
        n = n_blocks;
    else if (seeded())
        n = 1 + random_number() % seeded_residents;
    return static_cast<int>(n < n_blocks ? n : n_blocks);
}

// LAUNCH((gemm<64, 64>), ...) is for the preprocessor.
std::string without_parentheses(std::string name)
{
    if (name.size() > 2 && name.front() == '(' && name.back() == ')')
        return name.substr(1, name.size() - 2);
    return name;
}

void run(const Launch &asked, void (*body)(void *), void *arguments)
{
    Launch launch = asked;
    std::string name = without_parentheses(asked.kernel_name);
    launch.kernel_name = name.c_str();
    if (pending_failure() != cudaSuccess)
        return; // as on a card, nothing more runs
    uint64_t n_blocks = blocks_of(launch), n_threads = threads_of(launch);
    int max_resident = resident_blocks(launch, n_blocks);
    prepare_stacks(max_resident * static_cast<int>(n_threads));
    machine.launch = &launch;
    machine.body = body;
    machine.arguments = arguments;
    machine.ready.clear();
    machine.grid = Barrier();
    machine.n_exited = 0;
    machine.idle_polls = 0;
    machine.failed = false;
    machine.host = Context();
    if (under_tsan())
        machine.host.tsan_fiber = __tsan_get_current_fiber();

    run_blocks(n_blocks, max_resident);

    if (machine.failed) {
        discard_stacks();
        for (Block *block : machine.blocks)
            if (block != nullptr)
                block->resident = false;
    }
    acquire(&machine.end_object);
    check_guards();
    machine.launch = nullptr;
    current = nullptr;
}

} // namespace

// What no card takes is refused at once.
void put_launch(cudaStream_t stream, const Launch &asked, void (*body)(void *), void *arguments,
                void (*end)(void *))
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    const std::shared_ptr<void> call(arguments, end);
    const std::string name = without_parentheses(asked.kernel_name);
    Launch launch = asked;
    launch.kernel_name = name.c_str();
    if (pending_failure() != cudaSuccess || !check(launch, blocks_of(launch), threads_of(launch)))
        return;
    put_work(stream, {[asked, body, call] { run(asked, body, call.get()); }, nullptr, 0},
             When::at_once_in_order);
}

} // namespace emu
