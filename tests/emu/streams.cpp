// Streams and events: copies are made as late as CUDA's rules allow.
//
// Under seed 0 kernels run at once, and before them what their stream has to wait for; copies are made when somebody
// waits for them. A kernel on another stream that did not wait reads old data, and a pinned buffer that is written
// before its copy was made gives the new data: both show in the result. Seeded runs draw for each copy and each kernel
// whether it is done at once or late, so that a copy can also come before a kernel that still needs what was there.
#include "emu/streams.h"

#include <chrono>
#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace emu
{

// Work of a stream in the order of the calls. What is put into it is numbered.
struct Timeline {
    struct Entry {
        Work work;
        std::shared_ptr<Timeline> awaited; // instead of work: that one's entries before `until`
        uint64_t until;
    };
    std::deque<Entry> entries; // put, not done
    uint64_t n_put = 0;
    bool blocking = true, open = true;
    uint64_t n_done() const
    {
        return n_put - entries.size();
    }
};

namespace
{

using Clock = std::chrono::steady_clock;
using Line = std::shared_ptr<Timeline>;

std::vector<Line> &
lines() // the first is the default stream's; those that were closed stay until they are done
{
    static auto *all = new std::vector<Line>{std::make_shared<Timeline>()};
    return *all;
}

void put_wait(Timeline &line, const Line &awaited, uint64_t until)
{
    if (awaited->n_done() >= until)
        return;
    line.n_put++;
    line.entries.push_back({Work(), awaited, until});
}

// An entry waits only for what was put before it, so this ends.
void advance(Timeline &line, uint64_t until)
{
    while (line.n_done() < until) {
        Timeline::Entry entry = std::move(line.entries.front());
        line.entries.pop_front();
        if (entry.awaited) {
            advance(*entry.awaited, entry.until);
        } else {
            begin_device_work();
            entry.work.perform();
            end_device_work();
        }
    }
}

// The default stream and those made without cudaStreamNonBlocking wait for each other.
void order_with_default(const Line &line)
{
    const Line &first = lines()[0];
    if (line != first) {
        if (line->blocking)
            put_wait(*line, first, first->n_put);
        return;
    }
    for (const Line &other : lines())
        if (other != first && other->blocking)
            put_wait(*first, other, other->n_put);
}

// xorshift, apart from the numbers that order the threads
bool drawn_at_once()
{
    static uint64_t seed = 0, state = 0;
    if (seed != get_seed()) {
        seed = get_seed();
        state = seed * 0x9e3779b97f4a7c15ull | 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 32) % 2 == 0;
}

} // namespace

} // namespace emu

struct CUstream_st {
    emu::Line line;
};

struct CUevent_st {
    emu::Line line; // null: not recorded
    uint64_t until;
    emu::Clock::time_point time;
};

namespace emu
{

static const Line &line_of(cudaStream_t stream)
{
    return stream == nullptr ? lines()[0] : stream->line;
}

void put_work(cudaStream_t stream, Work work, When when)
{
    const Line line = line_of(stream);
    order_with_default(line);
    const bool at_once = when == When::now || (seeded() ? drawn_at_once() : when == When::at_once_in_order);
    line->n_put++;
    line->entries.push_back({std::move(work), nullptr, 0});
    if (at_once)
        advance(*line, line->n_put);
}

void finish_all_work()
{
    for (size_t i = 0; i < lines().size(); i++)
        advance(*lines()[i], lines()[i]->n_put);
    auto &all = lines();
    for (size_t i = all.size(); i-- > 1;)
        if (!all[i]->open)
            all.erase(all.begin() + static_cast<long>(i));
}

bool is_awaited(const void *begin, size_t size)
{
    const char *first = static_cast<const char *>(begin);
    for (const Line &line : lines())
        for (const auto &entry : line->entries) {
            const char *used = static_cast<const char *>(entry.work.host);
            if (used != nullptr && used < first + size && first < used + entry.work.host_size)
                return true;
        }
    return false;
}

} // namespace emu

using namespace emu;

cudaError_t cudaDeviceSynchronize()
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    finish_all_work();
    return pending_failure();
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    *stream = new CUstream_st{std::make_shared<Timeline>()};
    (*stream)->line->blocking = (flags & cudaStreamNonBlocking) == 0;
    lines().push_back((*stream)->line);
    return pending_failure();
}

// What is in it is still done.
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    stream->line->open = false;
    delete stream;
    return pending_failure();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    const Line line = line_of(stream);
    advance(*line, line->n_put);
    return pending_failure();
}

// A program may ask until the work is done, so it is done now.
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return cudaStreamSynchronize(stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (event->line)
        put_wait(*line_of(stream), event->line, event->until);
    return pending_failure();
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st{nullptr, 0, {}};
    return pending_failure();
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return pending_failure();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    const Line line = line_of(stream);
    order_with_default(line);
    event->line = line;
    event->until = line->n_put;
    event->time = Clock::now();
    return pending_failure();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    if (event->line)
        advance(*event->line, event->until);
    return pending_failure();
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end)
{
    if (!begin->line || !end->line) {
        note_error(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime of an event that was not recorded");
        return cudaErrorInvalidResourceHandle;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
    return pending_failure();
}
