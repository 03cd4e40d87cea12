"""Round trips through transformers and PEFT: what one writes the other reads, and both compute the same.

    python tests/peers/roundtrip_test.py [SEEDCORN] [-k WORD]     # WORD: only the tests with it in their name

SEEDCORN is the tool (or SEEDCORN_BIN; else build/release/bin/seedcorn). The model is that of
SEEDCORN_TEST_MODEL, or where `seedcorn pull smollm2-135m-instruct` puts it. Where the model or the Python
packages are absent, every test is skipped, saying why. The last line is "N passed, N failed, N skipped".
"""
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

try:
    import numpy
    import torch
    import transformers
    from peft import LoraConfig, PeftModel, get_peft_model

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    ABSENT = None
except ImportError as error:
    ABSENT = f"{error}; scripts/peers makes an environment that has it"

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = pathlib.Path(os.environ.get("SEEDCORN_TEST_MODEL") or "~/.cache/seedcorn/smollm2-135m-instruct").expanduser()
SEEDCORN = os.environ.get("SEEDCORN_BIN") or str(ROOT / "build/release/bin/seedcorn")

LOGIT_TOLERANCE = 1e-3  # absolute, float32 through 30 layers
LOSS_TOLERANCE = 1e-4   # relative, over all the steps of a short training
NEW_TOKENS = 32
REQUEST = "I loved slow, thoughtful science fiction about lonely people far from home. What should I watch next?"
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Some answers are long and some short, so that a mean over rows is no mean over tokens.
CHATS = [
    ("A quiet film set in space?", "1. Moon\n2. Solaris\n3. Gravity"),
    ("Noir with a detective.", "1. Chinatown\n2. The Big Sleep"),
    ("Something funny for the family.", "1. Paddington\n2. Babe\n3. Toy Story\n4. Up\n5. Elf"),
    ("One good horror film, please.", "1. The Thing"),
    ("A romance where people talk.", "1. Before Sunrise\n2. Her\n3. Once"),
    ("I liked Alien. What is next?", "1. Aliens\n2. Event Horizon\n3. Life"),
    ("A film about chess or go?", "1. Searching for Bobby Fischer"),
    ("Western, but slow.", "1. Unforgiven\n2. The Proposition\n3. Dead Man\n4. Hud"),
    ("Café life in Paris?", "1. Amélie\n2. Frances Ha"),
    ("The best of Kurosawa.", "1. Ikiru\n2. Seven Samurai\n3. Ran\n4. Rashomon"),
]
BATCH, EPOCHS, STEPS = 2, 4, 20  # passes over CHATS


def seedcorn(*arguments, code=0):
    """Runs the tool in float32; its result as JSON, or its message on stderr where `code` is a failure."""
    done = subprocess.run([SEEDCORN, *map(str, arguments), "--json", "--quiet"], capture_output=True, text=True,
                          timeout=1800)
    if done.returncode != code:
        raise AssertionError(f"seedcorn {' '.join(map(str, arguments))}: code {done.returncode}, not {code}\n"
                             f"{done.stderr.strip()}")
    return json.loads(done.stdout) if code == 0 else done.stderr


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def load_model(folder=MODEL, **settings):
    return transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, **settings).eval()


def load_adapted(adapter, folder=MODEL, trainable=False, **settings):
    return PeftModel.from_pretrained(load_model(folder, **settings), str(adapter), is_trainable=trainable)


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def supervised_ids(tokenizer, messages):
    """ChatML by hand: the ids, and a mask of what is learned (the assistant's words and the token that ends them)."""
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    ids, mask = [], []
    for message in messages:
        learned = message["role"] == "assistant"
        content = tokenizer.encode(message["content"], add_special_tokens=False)
        if learned:
            head = [start] + tokenizer.encode("assistant\n", add_special_tokens=False)
        else:
            head, content = [start], tokenizer.encode(f"{message['role']}\n{message['content']}", add_special_tokens=False)
        tail = tokenizer.encode("\n", add_special_tokens=False)
        ids += head + content + [end] + tail
        mask += [False] * len(head) + [learned] * (len(content) + 1) + [False] * len(tail)
    return ids, mask


def linear_rate(rate, step, n_steps, warmup):
    """transformers' get_linear_schedule_with_warmup, one step on, so that no step has the rate zero."""
    if step < warmup:
        return rate * (step + 1) / warmup
    return rate * (n_steps - step) / max(n_steps - warmup, 1)


def train_with_torch(model, rows, rate, weight_decay, warmup):
    """The plain loop: AdamW, the norm clipped at 1, the mean over the supervised tokens of a batch."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    n_steps, per_epoch = EPOCHS * len(rows) // BATCH, len(rows) // BATCH
    losses, norms = [], []
    for step in range(n_steps):
        batch = rows[step % per_epoch * BATCH:(step % per_epoch + 1) * BATCH]
        n_supervised = sum(sum(mask) for _, mask in batch)
        total = 0.0
        optimizer.zero_grad()
        for ids, mask in batch:
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            targets = torch.tensor([id if learned else -100 for id, learned in zip(ids, mask)])[1:]
            loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / n_supervised
            loss.backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_(weights, 1.0).item())
        for group in optimizer.param_groups:
            group["lr"] = linear_rate(rate, step, n_steps, warmup)
        optimizer.step()
        losses.append(total)
    return losses, norms


class Compared(unittest.TestCase):
    """A training of ours against one of torch's, and logits against logits."""

    def check_losses(self, out, losses, norms, rows):
        events = read_lines(out / "events.jsonl")
        self.assertEqual([event["step"] for event in events], list(range(1, STEPS + 1)))
        self.assertEqual(sum(event["tokens"] for event in events), EPOCHS * sum(len(ids) for ids, _ in rows))
        self.assertEqual(sum(event["supervised"] for event in events), EPOCHS * sum(sum(mask) for _, mask in rows))
        self.assertGreater(abs(losses[-1] - losses[0]), 0.01, "nothing was learned, so nothing is compared")
        self.assertLess(abs(events[0]["norm"] / norms[0] - 1), LOSS_TOLERANCE, "the same weights, another gradient")
        for event, loss, norm in zip(events, losses, norms):
            self.assertLess(abs(event["loss"] / loss - 1), LOSS_TOLERANCE,
                            f"step {event['step']}: loss {event['loss']}, torch {loss}")
            self.assertLess(abs(event["norm"] / norm - 1), 10 * LOSS_TOLERANCE,
                            f"step {event['step']}: norm {event['norm']}, torch {norm}")

    def assert_close(self, ours, theirs, tolerance):
        self.assertTrue(bool(torch.isfinite(ours).all()))
        self.assertLess(float((ours - theirs).abs().max()), tolerance)


@unittest.skipIf(ABSENT, ABSENT)
@unittest.skipUnless((MODEL / "model.safetensors").is_file(),
                     f"there is no model in {MODEL}; `seedcorn pull smollm2-135m-instruct` fetches it")
class RoundTrip(Compared):
    """Everything that several tests read is made on first use and kept in one temporary folder."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="seedcorn-peers-")
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(str(MODEL))
        cls.made = {}
        cls.dialogues = cls.folder / "dialogues.jsonl"
        write_lines(cls.dialogues, [
            {"id": f"chat-{i}", "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
            for i, (asked, said) in enumerate(CHATS)])

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def once(self, name, make):
        if name not in self.made:
            make(self.folder / name)
            self.made[name] = self.folder / name
        return self.made[name]

    def train(self, out, method, *more):
        seedcorn("train", "--model", MODEL, "--dialogues", self.dialogues, "--out", out, "--method", method,
                 "--epochs", EPOCHS, "--batch-size", BATCH, "--max-tokens", 128, "--no-shuffle", "--weight-decay", 0.01,
                 "--warmup-steps", 2, "--dtype", "fp32", *more)

    def random_adapter(self, **settings):
        """A PEFT adapter with both matrices drawn at random, so that it changes what the model says."""
        def make(out):
            torch.manual_seed(7)
            config = LoraConfig(r=4, lora_alpha=4, init_lora_weights=False, task_type="CAUSAL_LM",
                                **{"target_modules": ["q_proj", "v_proj"], **settings})
            get_peft_model(load_model(), config).save_pretrained(str(out))
        return self.once("peft-" + "-".join(f"{k}" for k in sorted(settings)), make)

    def initial_adapter(self):
        """A fresh one (B = 0) on every linear layer."""
        def make(out):
            torch.manual_seed(11)
            config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
            get_peft_model(load_model(), config).save_pretrained(str(out))
        return self.once("initial", make)

    def lora(self):
        """Twenty steps of ours from PEFT's initial adapter; the rows fall into one micro-batch."""
        return self.once("lora", lambda out: self.train(out, "lora", "--init-adapter", self.initial_adapter(),
                                                        "--lr", 1e-3))

    def full(self):
        """Twenty steps of ours on all weights, each row its own micro-batch."""
        return self.once("full", lambda out: self.train(out, "full", "--micro-batch", 1, "--lr", 2e-5))

    def dataset(self):
        """The first reviews of the sample data, imported."""
        def make(out):
            few = self.folder / "few.jsonl"
            with open(ROOT / "data/sample/reviews.jsonl", encoding="utf-8") as reviews:
                few.write_text("".join(line for line, _ in zip(reviews, range(24))))
            seedcorn("import", "reviews", "--reviews", few, "--items", ROOT / "data/sample/items.jsonl", "--out", out)
        return self.once("dataset", make)

    def embeddings(self):
        return self.once("mean.npy", lambda out: seedcorn("embed", "--data", self.dataset(), "--model", MODEL,
                                                          "--out", out, "--dtype", "fp32"))

    def prompt_ids(self):
        conversation = f"\nUser: {REQUEST}\nSystem: "
        content = ("Pretend you are a movie recommender system. \n I will give you a conversation between a user and "
                   "you (a recommender system). Based on the conversation, you reply me with 20 recommendations "
                   f"without extra sentences.\n Here is the conversation: {conversation}")
        text = self.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False,
                                                  add_generation_prompt=True)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def check_greedy(self, adapter, new_tokens=NEW_TOKENS):
        """What recommend says with an adapter is what transformers says with it."""
        ours = seedcorn("recommend", "--model", MODEL, "--adapter", adapter, "--request", REQUEST, "--max-tokens",
                        new_tokens, "--dtype", "fp32")
        ids = self.prompt_ids()
        self.assertEqual(ours["prompt_tokens"], len(ids))
        model = load_adapted(adapter)
        with torch.no_grad():
            told = model.generate(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                                  max_new_tokens=new_tokens, do_sample=False, output_logits=True,
                                  return_dict_in_generate=True)
        theirs = told.sequences[0, len(ids):].tolist()
        best = [torch.topk(step[0], 2).values for step in told.logits]
        margin = min((float(pair[0] - pair[1]) for pair in best))
        text = self.tokenizer.decode(theirs, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self.assertGreater(margin, LOGIT_TOLERANCE, "two words are nearly as likely: this request decides nothing")
        self.assertEqual(ours["reply"]["text"], text)
        self.assertEqual(ours["reply"]["n_tokens"], len([id for id in theirs if id != self.tokenizer.eos_token_id]))

    def generate(self, name, dialogues, *more):
        out = self.folder / name
        seedcorn("generate", "--model", MODEL, "--dialogues", dialogues, "--out", out, "--dtype", "fp32", *more)
        return read_lines(out)

    def rows(self):
        rows = []
        system = {"role": "system", "content": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"}
        for chat in read_lines(self.dialogues):
            ids, mask = supervised_ids(self.tokenizer, [system, *chat["messages"]])
            whole = self.tokenizer.apply_chat_template(chat["messages"], tokenize=True, return_dict=False)
            self.assertEqual(ids, whole, f"{chat['id']}: the rows of this test are not the template's")
            rows.append((ids, mask))
        return rows

    # --- adapters ---------------------------------------------------------------------------------------------

    def test_our_adapter_loads_in_peft_and_merges_to_the_same_logits(self):
        ids = self.prompt_ids()
        base = logits_of(load_model(), ids)
        theirs = logits_of(load_adapted(self.lora()), ids)
        self.assertGreater(float((theirs - base).abs().max()), 0.1, "the adapter does nothing, so nothing is compared")
        merged = self.once("merged", lambda out: seedcorn("merge", "--model", MODEL, "--adapter", self.lora(),
                                                          "--out", out))
        self.assert_close(logits_of(load_model(merged), ids), theirs, LOGIT_TOLERANCE)

    def test_a_fresh_adapter_of_ours_changes_nothing_in_peft(self):
        out = self.once("fresh", lambda out: self.train(out, "lora", "--lr", 1e-30, "--rank", 4, "--alpha", 8,
                                                        "--targets", "q_proj,down_proj"))
        model = load_adapted(out)
        names = {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}
        self.assertEqual(names, {"q_proj", "down_proj"})
        moved = max(float(weight.abs().max()) for name, weight in model.named_parameters() if "lora_B" in name)
        self.assertLess(moved, 1e-20, "B is not fresh")
        # One load of the model, its adapter on and off: two loads once differed by 5e-3 in CI, which nothing explained.
        ours = logits_of(model, self.prompt_ids())
        with model.disable_adapter():
            theirs = logits_of(model, self.prompt_ids())
        self.assert_close(ours, theirs, 1e-4)

    def test_recommend_with_our_adapter_says_what_transformers_says(self):
        self.check_greedy(self.lora())

    def test_recommend_with_an_adapter_of_peft_says_what_transformers_says(self):
        self.check_greedy(self.random_adapter())

    def test_recommend_with_a_rank_stabilised_adapter_of_peft(self):
        self.check_greedy(self.random_adapter(use_rslora=True), new_tokens=8)

    def test_recommend_with_a_dora_adapter_of_peft_with_patterns_and_an_expression(self):
        self.check_greedy(self.random_adapter(
            use_dora=True, use_rslora=True, target_modules=r".*\.(?:q_proj|v_proj|down_proj)",
            rank_pattern={"down_proj": 2}, alpha_pattern={r"layers\.[0-9]\.self_attn\.q_proj": 2}), new_tokens=8)

    def test_an_adapter_of_another_kind_is_refused_by_name(self):
        said = seedcorn("recommend", "--model", MODEL, "--adapter", self.random_adapter(bias="lora_only"), "--request",
                        REQUEST, code=3)
        self.assertIn("lora_only", said)

    # --- generation -------------------------------------------------------------------------------------------

    def test_replies_with_a_repetition_penalty_are_those_of_transformers(self):
        asked = self.folder / "asked.jsonl"
        write_lines(asked, [{"id": row["id"], "messages": row["messages"][:1]} for row in read_lines(self.dialogues)])
        ours = self.generate("penalised.jsonl", asked, "--max-tokens", 24, "--repetition-penalty", 1.3)
        model, compared = load_model(), 0
        for row, reply in zip(read_lines(asked), ours):
            ids = self.tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False,
                                                     add_generation_prompt=True)
            with torch.no_grad():
                told = model.generate(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                                      max_new_tokens=24, do_sample=False, repetition_penalty=1.3, output_scores=True,
                                      return_dict_in_generate=True)
            margin = min(float(pair[0] - pair[1]) for pair in (torch.topk(step[0], 2).values for step in told.scores))
            if margin < LOGIT_TOLERANCE:
                continue  # two words are nearly as likely
            said = [id for id in told.sequences[0, len(ids):].tolist() if id != self.tokenizer.eos_token_id]
            self.assertEqual(reply["text"], self.tokenizer.decode(said, skip_special_tokens=True,
                                                                  clean_up_tokenization_spaces=False))
            self.assertEqual(reply["n_tokens"], len(said))
            compared += 1
        self.assertGreater(compared, len(CHATS) // 2)

    def test_scores_are_the_log_probabilities_of_transformers(self):
        ours = self.generate("scores.jsonl", self.dialogues, "--score")
        model = load_model()
        for (ids, mask), row in zip(self.rows(), ours):
            logprobs = torch.log_softmax(logits_of(model, ids).double(), -1)
            learned = [at for at, wanted in enumerate(mask) if wanted]
            theirs = sum(float(logprobs[at - 1, ids[at]]) for at in learned)
            self.assertEqual(row["n_tokens"], len(learned))
            self.assertLess(abs(row["logprob"] - theirs), LOSS_TOLERANCE * abs(theirs), row["id"])

    # --- training ---------------------------------------------------------------------------------------------

    def test_lora_training_has_the_losses_of_torch(self):
        rows = self.rows()
        model = load_adapted(self.initial_adapter(), trainable=True)
        losses, norms = train_with_torch(model, rows, 1e-3, 0.01, warmup=2)
        self.check_losses(self.lora(), losses, norms, rows)
        ids = self.prompt_ids()
        self.assert_close(logits_of(load_adapted(self.lora()), ids), logits_of(model.eval(), ids), 20 * LOGIT_TOLERANCE)

    def test_dora_training_has_the_losses_of_torch(self):
        def start(out):
            torch.manual_seed(12)
            config = LoraConfig(r=4, lora_alpha=8, use_dora=True, use_rslora=True, target_modules=LINEARS,
                                task_type="CAUSAL_LM")
            get_peft_model(load_model(), config).save_pretrained(str(out))
        initial = self.once("initial-dora", start)
        ours = self.once("dora", lambda out: self.train(out, "lora", "--init-adapter", initial, "--lr", 1e-3))
        rows = self.rows()
        model = load_adapted(initial, trainable=True)
        losses, norms = train_with_torch(model, rows, 1e-3, 0.01, warmup=2)
        self.check_losses(ours, losses, norms, rows)
        ids = self.prompt_ids()
        theirs = logits_of(load_adapted(ours), ids)
        self.assert_close(theirs, logits_of(model.eval(), ids), 20 * LOGIT_TOLERANCE)
        merged = self.once("merged-dora", lambda out: seedcorn("merge", "--model", MODEL, "--adapter", ours, "--out", out))
        self.assert_close(logits_of(load_model(merged), ids), theirs, LOGIT_TOLERANCE)

    def test_full_training_has_the_losses_of_torch_and_its_folder_loads(self):
        rows = self.rows()
        model = load_model()
        losses, norms = train_with_torch(model, rows, 2e-5, 0.01, warmup=2)
        self.check_losses(self.full(), losses, norms, rows)
        tuned = load_model(self.full())
        ids = self.prompt_ids()
        self.assert_close(logits_of(tuned, ids), logits_of(model, ids), 50 * LOGIT_TOLERANCE)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(self.full()))
        chat = read_lines(self.dialogues)[0]["messages"]
        self.assertEqual(tokenizer.apply_chat_template(chat, tokenize=False),
                         self.tokenizer.apply_chat_template(chat, tokenize=False))

    # --- embeddings -------------------------------------------------------------------------------------------

    def review_ids(self):
        reviews = read_lines(self.dataset() / "reviews.jsonl")
        texts = [f"{r['title']}\n{r['text']}" if r.get("title") else r["text"] for r in reviews]
        return [self.tokenizer.encode(text, add_special_tokens=False)[:256] for text in texts]

    def check_vectors(self, ours, theirs):
        self.assertEqual(ours.shape, theirs.shape)
        self.assertEqual(ours.dtype, numpy.float32)
        a, b = ours.astype(numpy.float64), theirs.astype(numpy.float64)
        cosine = (a * b).sum(1) / numpy.linalg.norm(a, axis=1) / numpy.linalg.norm(b, axis=1)
        self.assertGreaterEqual(float(cosine.min()), 0.99999)
        self.assertLess(float(numpy.abs(numpy.linalg.norm(a, axis=1) / numpy.linalg.norm(b, axis=1) - 1).max()), 1e-4)

    def test_embeddings_are_the_mean_of_the_last_hidden_state(self):
        model = load_model().model
        with torch.no_grad():
            theirs = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in self.review_ids()]
        self.check_vectors(numpy.load(self.embeddings()), torch.stack(theirs).numpy())

    def test_embeddings_of_a_middle_layer_at_the_last_token(self):
        out = self.once("last.npy", lambda out: seedcorn("embed", "--data", self.dataset(), "--model", MODEL, "--out",
                                                         out, "--dtype", "fp32", "--pooling", "last", "--layer", 7))
        model = load_model().model
        with torch.no_grad():
            theirs = [model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[7][0, -1]
                      for ids in self.review_ids()]
        self.check_vectors(numpy.load(out), torch.stack(theirs).numpy())

    # --- dialogues --------------------------------------------------------------------------------------------

    def synthesised(self):
        def make(out):
            picks = self.folder / "selection.jsonl"
            seedcorn("select", "--data", self.dataset(), "--embeddings", self.embeddings(), "--strategy", "fisher",
                     "--budget", 6, "--out", picks)
            seedcorn("synth", "--data", self.dataset(), "--selection", picks, "--teacher", "offline",
                     "--dialogues-per-seed", 2, "--out", out)
        return self.once("synth", make) / "dialogues.jsonl"

    def check_messages(self, rows):
        self.assertEqual(len(rows), 12)
        for row in rows:
            self.assertEqual(row["messages"][-1]["role"], "assistant")
            text = self.tokenizer.apply_chat_template(row["messages"], tokenize=False)
            for message in row["messages"]:
                self.assertIn(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n", text)

    def test_synthesised_dialogues_fit_the_chat_template(self):
        self.check_messages(read_lines(self.synthesised()))

    def test_synthesised_dialogues_load_as_a_data_set(self):
        try:
            import datasets
        except ImportError:
            self.skipTest("the package datasets is absent; scripts/peers installs it")
        rows = datasets.load_dataset("json", data_files=str(self.synthesised()), split="train",
                                     cache_dir=str(self.folder / "cache"))
        self.assertEqual(set(rows.features["messages"].feature), {"role", "content"})
        self.check_messages(list(rows))


@unittest.skipIf(ABSENT, ABSENT)
@unittest.skipUnless((MODEL / "tokenizer.json").is_file(),
                     f"there is no tokenizer in {MODEL}; `seedcorn pull smollm2-135m-instruct` fetches it")
class Relatives(Compared):
    """Small random models of the other architectures, with SmolLM2's tokenizer: trained by us and by torch, saved and merged.
    Attention is eager on their side, which alone knows of caps."""

    EAGER = {"attn_implementation": "eager"}
    RATE = 2e-3

    def check(self, make_config, **more):
        """`make_config`: a class of configs; `more`: what it is given beside the shapes."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(MODEL))
        chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in CHATS]
        system = {"role": "system", "content": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"}
        rows = [supervised_ids(tokenizer, [system, *messages]) for messages in chats]
        ids = rows[4][0]
        with tempfile.TemporaryDirectory(prefix="seedcorn-relatives-") as temporary:
            folder = pathlib.Path(temporary)
            base, dialogues = folder / "base", folder / "dialogues.jsonl"
            write_lines(dialogues, [{"id": f"chat-{i}", "messages": messages} for i, messages in enumerate(chats)])
            self.make_base(base, tokenizer, make_config, more)

            model = load_model(base, **self.EAGER)
            before = logits_of(model, ids)
            losses, norms = train_with_torch(model, rows, self.RATE, 0.01, warmup=2)
            self.train(base, dialogues, folder / "full", "full", "--micro-batch", 1)
            self.check_losses(folder / "full", losses, norms, rows)
            tuned = logits_of(load_model(folder / "full", **self.EAGER), ids)
            self.assertGreater(float((tuned - before).abs().max()), 0.1, "the training changes nothing")
            self.assert_close(tuned, logits_of(model, ids), 50 * LOGIT_TOLERANCE)

            torch.manual_seed(13)
            config = LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=LINEARS, task_type="CAUSAL_LM")
            get_peft_model(load_model(base, **self.EAGER), config).save_pretrained(str(folder / "initial"))
            model = load_adapted(folder / "initial", base, trainable=True, **self.EAGER)
            losses, norms = train_with_torch(model, rows, self.RATE, 0.01, warmup=2)
            self.train(base, dialogues, folder / "dora", "lora", "--init-adapter", folder / "initial")
            self.check_losses(folder / "dora", losses, norms, rows)
            theirs = logits_of(load_adapted(folder / "dora", base, **self.EAGER), ids)
            self.assert_close(theirs, logits_of(model.eval(), ids), 20 * LOGIT_TOLERANCE)
            seedcorn("merge", "--model", base, "--adapter", folder / "dora", "--out", folder / "merged")
            self.assert_close(logits_of(load_model(folder / "merged", **self.EAGER), ids), theirs, LOGIT_TOLERANCE)

    def make_base(self, base, tokenizer, make_config, more):
        torch.manual_seed(9)
        config = make_config(
            vocab_size=len(tokenizer), hidden_size=48, intermediate_size=80, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=512, initializer_range=0.15, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=None, **more)
        model = transformers.AutoModelForCausalLM.from_config(config, **self.EAGER).float()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" in name or name.endswith(".bias"):
                    weight.add_(0.2 * torch.randn_like(weight))
        model.save_pretrained(str(base))
        tokenizer.save_pretrained(str(base))

    def train(self, base, dialogues, out, method, *more):
        seedcorn("train", "--model", base, "--dialogues", dialogues, "--out", out, "--method", method, "--epochs", EPOCHS,
                 "--batch-size", BATCH, "--max-tokens", 128, "--no-shuffle", "--weight-decay", 0.01, "--warmup-steps", 2,
                 "--lr", self.RATE, "--dtype", "fp32", *more)

    def test_qwen2(self):
        self.check(transformers.Qwen2Config, num_hidden_layers=2, tie_word_embeddings=True)

    def test_qwen3(self):
        self.check(transformers.Qwen3Config, num_hidden_layers=2, head_dim=16)

    def test_gemma2(self):
        self.check(transformers.Gemma2Config, num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=24, sliding_window=10,
                   attn_logit_softcapping=4.0, final_logit_softcapping=8.0)

    def test_gemma3(self):
        self.check(transformers.Gemma3TextConfig, num_hidden_layers=3, head_dim=16, query_pre_attn_scalar=24, sliding_window=10,
                   layer_types=["sliding_attention", "full_attention", "sliding_attention"])


class Counted(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    global SEEDCORN
    words = sys.argv[1:]
    loader = unittest.TestLoader()
    if "-k" in words:
        at = words.index("-k")
        loader.testNamePatterns = [f"*{words[at + 1]}*"]
        del words[at:at + 2]
    if words:
        SEEDCORN = words[0]
    if not os.access(SEEDCORN, os.X_OK):
        print(f"roundtrip_test: there is no {SEEDCORN}; scripts/test builds it", file=sys.stderr)
        print("0 passed, 1 failed, 0 skipped")
        return 1
    SEEDCORN = os.path.abspath(SEEDCORN)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Counted, warnings="ignore").run(
        unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (RoundTrip, Relatives)))
    bad, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    for reason in sorted({reason for _, reason in result.skipped}):
        print(f"skipped: {reason}")
    print(f"{result.passed} passed, {bad} failed, {skipped} skipped")
    return 1 if bad or result.passed + skipped == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
