"""The model on a card, ours beside PyTorch's, and the table of both: what `scripts/gpu-bench model` runs.

    python3 bench/gpu_model.py ours CASE --seedcorn BIN           one case with the tool
    python3 bench/gpu_model.py theirs CASE                        the same with transformers and PEFT, or in plain PyTorch
    python3 bench/gpu_model.py attention                          torch's SDPA, every backend that runs here
    python3 bench/gpu_model.py machine                            what the card gives (bench/gpu_select.py)
    python3 bench/gpu_model.py table RESULTS.jsonl                Markdown, from the JSON lines of both sides
    python3 bench/gpu_model.py floors                             Markdown: the least each case takes, by the makers' figures

The cases are below. Weights are random in the shapes of bench/configs; tokens are random, in rows of equal length, so that theirs
pays for no padding. Both sides warm up once; the best of some repeats counts. Theirs runs as it is and then with torch.compile
(generate: with a cache of fixed shape), each a line of JSON as soon as it is there; what does not work is a line that says why.
--config, --rows and --tokens change the shape, to try it where there is no card.
"""
import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import time

import gpu_select
import peers

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs"
# name: what it is, the model, the verb's arguments, rows, tokens a row (generate: of the prompt, and new ones)
CASES = {
    "embed-1b": ("embed, 1B", "llama-3.2-1b", ["embed"], 128, 150),
    "lora-1b": ("train, LoRA r16 on all linear layers, 1B", "llama-3.2-1b", ["train", "--method", "lora"], 16, 256),
    "full-1b": ("train, full, 1B", "llama-3.2-1b", ["train", "--method", "full"], 16, 256),
    "decode-1": ("generate, 1B, batch 1", "llama-3.2-1b", ["generate"], 1, 128),
    "decode-64": ("generate, 1B, batch 64", "llama-3.2-1b", ["generate"], 64, 128),
    "embed-3b": ("embed, 3B", "llama-3.2-3b", ["embed"], 128, 150),
    "lora-3b": ("train, LoRA r16 on all linear layers, 3B", "llama-3.2-3b", ["train", "--method", "lora"], 16, 256),
}
# Bytes a second, and operations a second in bf16 with sums in fp32.
MAKERS = {"A6000": (768e9, 155e12), "H100 SXM": (3.35e12, 989e12), "H200": (4.8e12, 989e12)}
RATES = {"bf16": "bf16_flops", "fp32": "fp32_flops"}  # as the part machine names them
ATTENTION = {"sequences": 4, "tokens": 4096, "heads": 24, "kv_heads": 8, "head_dim": 128}  # of the 3B model


def shape_of(case, options):
    title, config, verb, rows, tokens = CASES[case]
    return title, options.config or CONFIGS / f"{config}.json", verb, options.rows or rows, options.tokens or tokens


def emit_case(case, options, side, **values):
    _, config, verb, rows, tokens = shape_of(case, options)
    print(json.dumps({"part": case, "side": side, "dtype": options.dtype, "case": verb, "rows": rows, "tokens": tokens,
                      "model": pathlib.Path(config).stem, "numbers": peers.model_numbers(config), **values}), flush=True)


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(options):
    _, config, verb, rows, tokens = shape_of(options.case, options)
    done = subprocess.run([options.seedcorn, "bench", *verb, "--random-weights", config, "--rows", str(rows), "--tokens",
                           str(tokens), "--repeats", str(options.repeats), "--device", options.device, "--dtype",
                           options.dtype, "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"gpu_model: seedcorn bench ended with code {done.returncode}")
    result = json.loads(done.stdout)
    emit_case(options.case, options, "seedcorn", variant="seedcorn", device=result["device"], units=result["units"],
              seconds=result["seconds"], prepare_seconds=result["prepare_seconds"],
              peak_gflops=result["peak_gflops"], bytes=result["device_bytes"] or result["peak_bytes"])


# --- theirs ----------------------------------------------------------------------------------------------------------


class Transformers:
    """transformers' Llama and PEFT's adapters, made here from the config."""

    def __init__(self, config, verb, rows, tokens, options):
        import transformers

        self.name = f"transformers {transformers.__version__}"
        self.tokens, self.static = tokens, {}
        values = json.loads(pathlib.Path(config).read_text())
        self.model = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_dict(values))
        self.model.train(verb[0] == "train")
        if verb[-1] == "lora":
            import peft

            self.name += f", peft {peft.__version__}"
            self.model = peft.get_peft_model(self.model, peft.LoraConfig(
                r=16, lora_alpha=32, lora_dropout=0.0, target_modules=peers.LINEARS, task_type="CAUSAL_LM"))
        self.ids = torch.randint(0, values["vocab_size"], (rows, tokens), device=options.device)
        self.run = getattr(self, verb[0])

    def compile(self):
        if self.run == self.generate:
            self.static = {"cache_implementation": "static"}
            return "static cache"
        (self.model.model if self.run == self.embed else self.model).compile()
        return "torch.compile"

    def embed(self):
        with torch.inference_mode():
            self.model.model(input_ids=self.ids, use_cache=False)

    def train(self):
        self.model.zero_grad(set_to_none=False)
        self.model(input_ids=self.ids, labels=self.ids, use_cache=False).loss.backward()

    def generate(self):
        with torch.inference_mode():
            self.model.generate(input_ids=self.ids, attention_mask=torch.ones_like(self.ids), max_new_tokens=self.tokens,
                                min_new_tokens=self.tokens, do_sample=False, pad_token_id=0, **self.static)


class Plain:
    """Where there is no transformers: bench/plain_llama.py."""

    def __init__(self, config, verb, rows, tokens, options):
        import plain_llama

        self.name = f"plain PyTorch {torch.__version__}"
        values = json.loads(pathlib.Path(config).read_text())
        self.model = plain_llama.PlainLlama(values)
        self.tokens, self.step = tokens, None
        if verb[-1] == "lora":
            self.model.adapt()
        if verb[0] == "generate":
            self.cache = plain_llama.Cache(self.model, rows, 2 * tokens)
        self.ids = torch.randint(0, values["vocab_size"], (rows, tokens), device=options.device)
        self.forward, self.loss = self.model.embed, self.model.loss
        self.run = getattr(self, verb[0])

    def compile(self):
        if self.run == self.generate:
            self.step = torch.compile(self.model.fixed_step, mode="reduce-overhead")
            return "torch.compile, CUDA graphs"
        self.forward, self.loss = torch.compile(self.model.embed), torch.compile(self.model.loss)
        return "torch.compile"

    def embed(self):
        with torch.inference_mode():
            self.forward(self.ids)

    def train(self):
        self.model.zero_grad(set_to_none=False)
        self.loss(self.ids).backward()

    def generate(self):
        with torch.inference_mode():
            self.model.generate(self.ids, self.tokens, self.cache, self.step)


def best_seconds(options, work):
    work()
    times = []
    while len(times) < options.repeats:
        gpu_select.wait(options)
        start = time.perf_counter()
        work()
        gpu_select.wait(options)
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(options):
    if options.device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated()


def reason(error):
    """The first line of what went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def theirs(options):
    _, config, verb, rows, tokens = shape_of(options.case, options)
    side = Plain
    try:
        import transformers  # noqa: F401
        if verb[-1] == "lora":
            import peft  # noqa: F401
        side = Transformers
    except ImportError as error:
        print(f"gpu_model: {error}: the peer is a Llama in plain PyTorch", file=sys.stderr)
    if options.plain:
        side = Plain
    torch.manual_seed(0)
    torch.set_default_dtype({"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype])
    with torch.device(options.device):
        peer = side(config, verb, rows, tokens, options)
    for compiled in (False, True):
        if compiled and options.no_compile:
            break
        variant = peer.name
        try:
            if compiled:
                variant += ", " + peer.compile()
            if options.device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            seconds = best_seconds(options, peer.run)
        except Exception as error:  # out of memory, or no compiler here: the table says so
            emit_case(options.case, options, "pytorch", variant=variant, device=options.name, failed=reason(error))
            continue
        emit_case(options.case, options, "pytorch", variant=variant, device=options.name, units=rows * tokens,
                  seconds=seconds, bytes=peak_bytes(options))


def attention(options):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.manual_seed(0)
    shape = dict(ATTENTION, sequences=options.rows or ATTENTION["sequences"], tokens=options.tokens or ATTENTION["tokens"])
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]

    def make(heads):
        # As a linear layer leaves it: [sequence][token][head].
        return torch.randn(shape["sequences"], shape["tokens"], heads, shape["head_dim"], device=options.device,
                           dtype=dtype).transpose(1, 2)

    def best_ms(work):
        """By the card's clock, as ours."""
        if options.device == "cpu":
            return 1e3 * best_seconds(options, work)
        times = []
        for i in range(11):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            if i > 0:
                times.append(start.elapsed_time(end))
        return min(times)

    q, dout = make(shape["heads"]), make(shape["heads"])
    k, v = make(shape["kv_heads"]), make(shape["kv_heads"])
    groups = shape["heads"] // shape["kv_heads"]
    pairs = shape["sequences"] * shape["tokens"] * (shape["tokens"] + 1) / 2
    product = 2 * pairs * shape["heads"] * shape["head_dim"]
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        for repeated in (False, True):
            name = backend.name.lower() + (", keys and values repeated beforehand" if repeated else "")
            given = [x.repeat_interleave(groups, 1) if repeated and x is not q else x for x in (q, k, v)]
            given = [x.detach().requires_grad_() for x in given]
            out = None

            def forward(given=given, repeated=repeated):
                return torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True, enable_gqa=not repeated)

            try:
                with sdpa_kernel([backend]):
                    for work, part, n in ((forward, "attention_forward", 2),
                                          (lambda: torch.autograd.grad(out, given, dout, retain_graph=True),
                                           "attention_backward", 5)):
                        ms = best_ms(work)
                        out = forward()
                        gpu_select.emit("peer_kernel", options, name=part, variant=name, ms=ms, operations=n * product)
                break  # it takes groups of heads as they are
            except RuntimeError as error:
                print(f"gpu_model: {name}: {reason(error)}", file=sys.stderr)


# --- the tables ------------------------------------------------------------------------------------------------------


def case_shape(line):
    return f"{line['rows']} x {line['tokens']}" + (f" + {line['tokens']}" if line["case"][0] == "generate" else "")


def floor_of(line, bandwidth, flops):
    """Seconds of the units that were worked off."""
    bytes_of = {"bf16": 2, "fp32": 4}[line["dtype"]]
    return line.get("units", line["rows"] * line["tokens"]) / peers.floor_rate(
        line["case"], line["rows"], line["tokens"], line["numbers"], bytes_of, flops, bandwidth)


def print_cases(lines, peaks):
    print("| what | shape | side | s | tok/s | TFLOP/s | of the peak | memory, GB | ours faster by | floor, s | of the floor |\n"
          "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for case, (title, config, *_) in CASES.items():
        sides = {side: [line for line in lines if line["part"] == case and line["side"] == side]
                 for side in ("seedcorn", "pytorch")}
        mine = sides["seedcorn"][-1:]
        for line in mine + sides["pytorch"]:
            of = title if line["model"] == config else f"{title}: {line['model']} instead"
            head = f"| {of} | {case_shape(line)} | {line['variant']} | "
            if "failed" in line:
                print(head + f"not yet measured: {line['failed']} | | | | | | | |")
                continue
            seconds = line["seconds"]
            rate = line["units"] / (line["rows"] * line["tokens"]) * peers.operations(
                line["case"], line["rows"], line["tokens"], line["numbers"]) / seconds
            peak = peaks[RATES[line["dtype"]]]
            floor = floor_of(line, peaks["copy_bytes_per_s"], peak)
            ratio = f"**{seconds / mine[0]['seconds']:.2f}**" if mine and line not in mine else ""
            print(head + f"{seconds:.4g} | {line['units'] / seconds:,.0f} | {rate / 1e12:.4g} | {100 * rate / peak:.0f} % | "
                  f"{line['bytes'] / 1e9:.2f} | {ratio} | {floor:.3g} | {100 * floor / seconds:.0f} % |")
        for side in ("seedcorn", "pytorch"):
            if not sides[side]:
                print(f"| {title} | | {side} | not yet measured | | | | | | | |")


def print_attention(lines, peaks):
    print("\n| what | shape | side | ms | TFLOP/s | of the peak | ours faster by |\n|---|---|---|--:|--:|--:|--:|")
    for name in ("attention_forward", "attention_backward"):
        mine = [line for line in lines if line["part"] == "kernel" and line["name"] == name][-1:]
        others = [line for line in lines if line["part"] == "peer_kernel" and line["name"] == name]
        for line in mine + others:
            rate = line["operations"] / line["ms"] * 1e3
            ratio = f"**{line['ms'] / mine[0]['ms']:.2f}**" if mine and line not in mine else ""
            print(f"| {name} | {mine[0]['shape'] if mine else ''} | {line.get('variant', 'seedcorn')} | {line['ms']:.3f} | "
                  f"{rate / 1e12:.4g} | {100 * rate / peaks['bf16_flops']:.0f} % | {ratio} |")
        if not mine or not others:
            print(f"| {name} | | {'pytorch' if mine else 'seedcorn'} | not yet measured | | | |")


def table(options):
    lines = gpu_select.read_lines(options.case)
    peaks = gpu_select.find_peaks(lines)
    for line in lines:  # without PyTorch: of our own product
        if line.get("peak_gflops") and math.isnan(peaks[RATES[line["dtype"]]]):
            peaks[RATES[line["dtype"]]] = 1e9 * line["peak_gflops"]
    gpu_select.print_machine(lines, peaks)
    print_cases(lines, peaks)
    print_attention(lines, peaks)


def floors(options):
    print("| what | shape | operations, TFLOP | " + " | ".join(f"{name}, ms" for name in MAKERS) + " |\n|---|---|--:|"
          + "--:|" * len(MAKERS))
    for case, (title, *_) in CASES.items():
        _, config, verb, rows, tokens = shape_of(case, options)
        line = {"case": verb, "rows": rows, "tokens": tokens, "numbers": peers.model_numbers(config), "dtype": options.dtype}
        print(f"| {title} | {case_shape(line)} | {peers.operations(verb, rows, tokens, line['numbers']) / 1e12:.3g} | "
              + " | ".join(f"{1e3 * floor_of(line, *maker):.3g}" for maker in MAKERS.values()) + " |")
    n = ATTENTION["sequences"] * ATTENTION["tokens"]
    product = n * (ATTENTION["tokens"] + 1) * ATTENTION["heads"] * ATTENTION["head_dim"]
    for name, times in (("attention, forward", 2), ("attention, backward", 5)):
        print(f"| {name}, {ATTENTION['heads']} heads of {ATTENTION['head_dim']} | {ATTENTION['sequences']} x "
              f"{ATTENTION['tokens']} | {times * product / 1e12:.3g} | "
              + " | ".join(f"{1e3 * times * product / flops:.3g}" for _, flops in MAKERS.values()) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["ours", "theirs", "attention", "machine", "table", "floors"])
    parser.add_argument("case", nargs="?", help=f"ours, theirs: {', '.join(CASES)}; table: a file of JSON lines")
    parser.add_argument("--seedcorn", default=os.environ.get("SEEDCORN_BIN", "seedcorn"), help="the tool")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--config", help="another config.json")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plain", action="store_true", help="theirs: plain PyTorch, though transformers are there")
    parser.add_argument("--no-compile", action="store_true", help="theirs: as it is only")
    options = parser.parse_args()
    if options.what in ("ours", "theirs") and options.case not in CASES:
        parser.error(f"the cases are {', '.join(CASES)}")
    if options.what == "table" and not options.case:
        parser.error("table needs a file")
    if options.what in ("theirs", "attention", "machine"):
        gpu_select.open_torch(options)
        global torch
        torch = gpu_select.torch
    if options.what == "machine":
        with torch.inference_mode():
            gpu_select.machine(options)
    else:
        globals()[options.what](options)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"gpu_model: {error}")
