// What went wrong, in one sentence: the text of the pending error, as cudaGetErrorString() gives it.
#include "emu/machine.h"

#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

namespace emu
{

namespace
{

enum { max_sentence = 1000 };

cudaError_t pending = cudaSuccess;
cudaError_t explained = cudaSuccess; // the code that `sentence` is about
char sentence[max_sentence];
char diagnosis[max_sentence];

struct Reason {
    cudaError_t code;
    const char *name, *text;
};

const Reason reasons[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorCooperativeLaunchTooLarge, "cudaErrorCooperativeLaunchTooLarge",
     "too many blocks in cooperative launch"},
};

const Reason &reason_of(cudaError_t code)
{
    static const Reason unknown = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
    for (const Reason &reason : reasons)
        if (reason.code == code)
            return reason;
    return unknown;
}

std::string counted(int n, const char *one, const char *more)
{
    return std::to_string(n) + " " + (n == 1 ? one : more);
}

// Threads that wait at one place for one thing.
struct Waiting {
    const char *what;
    Where where;
    unsigned mask;
    int n;
};

} // namespace

void note_error(cudaError_t code, const char *format, ...)
{
    if (code == cudaErrorLaunchFailure)
        machine.failed = true;
    if (pending == cudaErrorLaunchFailure)
        return; // what comes after a failure is its consequence
    pending = explained = code;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    if (code == cudaErrorLaunchFailure)
        copy_bytes(diagnosis, sentence, sizeof diagnosis);
}

cudaError_t pending_failure()
{
    return pending == cudaErrorLaunchFailure ? pending : cudaSuccess;
}

void diagnose(Where where, const char *format, ...)
{
    char what[max_sentence];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const Fiber &self = running_fiber();
    const uint3 &thread = self.thread_index, &block = self.block_index;
    char place[max_sentence] = "";
    if (where.line > 0)
        std::snprintf(place, sizeof place, "%s:%d: ", where.file, where.line);
    note_error(cudaErrorLaunchFailure, "%sthread (%u,%u,%u) of block (%u,%u,%u) of %s %s", place, thread.x,
               thread.y, thread.z, block.x, block.y, block.z, machine.launch->kernel_name, what);
    current = nullptr;
    leave_context(machine.host);
}

void diagnose_deadlock()
{
    std::vector<Waiting> places;
    int n_exited = machine.n_exited;
    for (const Block *block : machine.blocks) {
        if (block == nullptr || !block->resident)
            continue;
        for (int i = 0; i < block->n_threads; i++) {
            const Fiber &fiber = block->fibers[i];
            if (fiber.state != State::waiting)
                continue;
            Waiting *same = nullptr;
            for (Waiting &place : places)
                if (place.what == fiber.waits_in && place.where.line == fiber.where.line &&
                    place.mask == fiber.mask)
                    same = &place;
            if (same != nullptr)
                same->n++;
            else
                places.push_back({fiber.waits_in, fiber.where, fiber.mask, 1});
        }
    }
    std::string text;
    for (const Waiting &place : places) {
        text += counted(place.n, "thread waits", "threads wait") + " in " + place.what;
        if (place.mask != 0) {
            char mask[32];
            std::snprintf(mask, sizeof mask, " (mask 0x%08x)", place.mask);
            text += mask;
        }
        text += std::string(" at ") + place.where.file + ":" + std::to_string(place.where.line) + ", ";
    }
    Where first = places.empty() ? Where{"", 0} : places[0].where;
    note_error(cudaErrorLaunchFailure, "%s:%d: deadlock in %s: %sand %s", first.file, first.line,
               machine.launch->kernel_name, text.c_str(),
               counted(n_exited, "has exited", "have exited").c_str());
}

const char *last_diagnosis()
{
    return diagnosis;
}

} // namespace emu

using namespace emu;

cudaError_t cudaGetLastError()
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    cudaError_t code = pending;
    pending = cudaSuccess;
    return code;
}

cudaError_t cudaPeekAtLastError()
{
    std::lock_guard<std::recursive_mutex> lock(machine_mutex);
    return pending;
}

const char *cudaGetErrorString(cudaError_t code)
{
    return code != cudaSuccess && code == explained ? sentence : reason_of(code).text;
}

const char *cudaGetErrorName(cudaError_t code)
{
    return reason_of(code).name;
}
