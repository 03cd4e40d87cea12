// The memory plan against the allocations that are then made, byte by byte.
#include <map>

#include "fixture.h"

extern "C" {
#include "model/internal.h"
}

namespace
{

// A table that counts what is held. The library frees by pointer alone, so sizes are kept here.
struct Counter {
    ops table = {};
    std::map<void *, size_t> blocks;
    size_t held = 0, most = 0;
};
Counter *counter;

sc_status counting_alloc(void **out, size_t bytes)
{
    const sc_status status = cpu_ops()->alloc(out, bytes);
    if (status == SC_OK) {
        counter->blocks[*out] = bytes;
        counter->held += bytes;
        counter->most = std::max(counter->most, counter->held);
    }
    return status;
}

void counting_release(void *pointer)
{
    const auto at = counter->blocks.find(pointer);
    if (at != counter->blocks.end()) {
        counter->held -= at->second;
        counter->blocks.erase(at);
    }
    cpu_ops()->release(pointer);
}

class Memory : public testing::Test
{
  protected:
    void SetUp() override
    {
        count.table = *cpu_ops();
        count.table.alloc = counting_alloc;
        count.table.release = counting_release;
        counter = &count;
    }
    void TearDown() override
    {
        EXPECT_EQ(count.held, 0u);
        counter = nullptr;
    }
    static device device_of(const ops *table, dtype type)
    {
        device d = {};
        d.ops = table;
        d.threads = 2;
        d.dtype = type;
        return d;
    }
    Counter count;
};

struct Batch {
    Ints ids, targets, ends = {0};
    int64_t n_supervised = 0, longest = 0;
    Batch(int n_seqs, int length)
    {
        for (int s = 0; s < n_seqs; s++) {
            for (int i = 0; i < length - s; i++) {
                ids.push_back((s * 31 + i * 7) % 128);
                targets.push_back(i % 3 == 0 ? -1 : (s * 17 + i * 5) % 128);
                n_supervised += i % 3 != 0;
            }
            ends.push_back(static_cast<int32_t>(ids.size()));
        }
        longest = length;
    }
    memory_batch bounds() const
    {
        return {static_cast<int64_t>(ids.size()), static_cast<int64_t>(ends.size()) - 1, longest,
                n_supervised};
    }
};

int64_t total(const model_memory &p)
{
    return p.weights + p.adapter + p.gradients + p.activations + p.activation_gradients + p.scratch + p.head +
           p.batch;
}

} // namespace

TEST_F(Memory, ThePlanIsWhatIsAllocated)
{
    const Batch batch(7, 90), small(2, 40), large(90, 100);
    ASSERT_GT(batch.n_supervised, 256); // more than one chunk of the head
    std::vector<uint64_t> keys(large.ids.size(), 3);
    const struct {
        const char *kind, *model;
    } cases[] = {{"full", "tied"},   {"lora", "tied"},   {"dora", "tied"},   {"init", "tied"},
                 {"full", "qwen2"},  {"dora", "qwen2"},  {"full", "qwen3"},  {"lora", "qwen3"},
                 {"full", "gemma2"}, {"lora", "gemma2"}, {"full", "gemma3"}, {"dora", "gemma3"}};
    for (const auto &[kind, name] : cases)
        for (dtype type : {DTYPE_F32, DTYPE_BF16})
            for (bool recompute : {false, true})
                for (const Batch *held : {static_cast<const Batch *>(nullptr), &small, &large}) {
                    SCOPED_TRACE(testing::Message()
                                 << name << " " << kind << " type " << type << " recompute " << recompute
                                 << " held " << (held ? held->ids.size() : 0));
                    const std::string what = kind, folder = tiny(name), init = tiny("dora");
                    device d = device_of(&count.table, type);
                    memory_task task = {};
                    task.full = what == "full";
                    task.adapter.rank = 4;
                    task.adapter.alpha = 8;
                    task.adapter.dropout = what == "lora" ? 0.1 : 0;
                    task.adapter.dora = what == "dora";
                    task.init_adapter = what == "init" ? init.c_str() : nullptr;
                    task.training = batch.bounds();
                    if (held != nullptr)
                        task.validation = held->bounds();
                    model *m = nullptr;
                    model_memory plan = {};
                    ASSERT_OK(model_outline(folder.c_str(), &d, &m));
                    m->recompute = recompute;
                    ASSERT_OK(model_memory_plan(m, &task, &plan));
                    EXPECT_EQ(count.held, 0u) << "an outline takes no memory of the device";
                    model_close(m);

                    count.most = count.held;
                    ASSERT_OK(model_open(folder.c_str(), &d, &m));
                    m->recompute = recompute;
                    const sc_status made = task.full        ? model_grads_create(m)
                                           : what == "init" ? model_lora_load(m, task.init_adapter)
                                                            : model_lora_create(m, &task.adapter);
                    ASSERT_OK(made);
                    packed_batch b = batch_of(batch.ids, batch.ends);
                    b.row_keys = keys.data();
                    double loss = 0;
                    ASSERT_OK(model_train_step(m, &b, batch.targets.data(), 1, &loss, nullptr));
                    if (held != nullptr) {
                        packed_batch h = batch_of(held->ids, held->ends);
                        h.row_keys = keys.data();
                        ASSERT_OK(model_loss(m, &h, held->targets.data(), &loss, nullptr));
                    }
                    EXPECT_EQ(static_cast<int64_t>(count.most), total(plan));
                    EXPECT_EQ(plan.n_trained * 4, plan.gradients);
                    EXPECT_EQ(plan.moments, 2 * plan.gradients);
                    EXPECT_EQ(plan.masters, task.full && type == DTYPE_BF16 ? plan.gradients : 0);
                    EXPECT_EQ(plan.mapped > 0, !task.full && type == DTYPE_F32);
                    model_close(m);
                }
}

// The logits of all supervised tokens would be the largest array; they are never whole.
TEST_F(Memory, TheHeadDoesNotGrowWithVocabularyTimesTokens)
{
    device d = device_of(&count.table, DTYPE_F32);
    for (int n_seqs : {8, 32}) {
        const Batch batch(n_seqs, 120);
        model *m = nullptr;
        ASSERT_OK(model_open((SC_SOURCE_DIR "/tests/fixtures/tiny_chat/model"), &d, &m));
        lora_options o = {};
        o.rank = 1;
        o.alpha = 1;
        o.targets = "q_proj";
        ASSERT_OK(model_lora_create(m, &o));
        m->recompute = true;
        const packed_batch b = batch_of(batch.ids, batch.ends);
        const size_t whole = static_cast<size_t>(batch.n_supervised * m->config.vocab_size) * sizeof(float);
        const size_t chunk = static_cast<size_t>(256 * m->config.vocab_size) * sizeof(float);
        double loss = 0;
        ASSERT_OK(model_train_step(m, &b, batch.targets.data(), 1, &loss, nullptr));
        size_t logits = 0;
        for (const auto &block : count.blocks)
            logits += block.second == chunk || block.second == whole;
        ASSERT_GT(whole, 2 * chunk);
        EXPECT_EQ(logits, 1u) << "one array of a chunk's logits";
        EXPECT_EQ(storage_of(m)->ws.logits.size, chunk);
        model_close(m);
    }
}

TEST_F(Memory, RecomputingSavesTheActivationsOfAllBlocksButOne)
{
    device d = device_of(&count.table, DTYPE_F32);
    model *m = nullptr;
    ASSERT_OK(model_outline(tiny("tied").c_str(), &d, &m));
    memory_task task = {};
    task.full = true;
    task.training = {1000, 10, 100, 500};
    model_memory kept, again;
    ASSERT_OK(model_memory_plan(m, &task, &kept));
    m->recompute = true;
    ASSERT_OK(model_memory_plan(m, &task, &again));
    EXPECT_LT(again.activations, kept.activations / 2); // three blocks
    EXPECT_EQ(again.weights, kept.weights);
    EXPECT_EQ(again.head, kept.head);
    model_close(m);
}
