"""Generation beside llama.cpp: the same weights in the same type, one row and greedy.

    python3 -m venv V && V/bin/pip install numpy gguf llama-cpp-python==0.3.36     # compiles llama.cpp for this processor
    V/bin/python bench/generate_peers.py [--seedcorn BIN] [--model DIR] [--threads N] [--tokens 64] [--rounds 3]

Makes a GGUF file of the folder's weights in bf16 (names, rotary order and metadata as llama.cpp's own converter has them, from the
GGUF that lies beside: `seedcorn pull` fetches it), then runs ours, llama.cpp in bf16 and llama.cpp in that file's Q4_1, in turn: a prompt
of random tokens and as many new ones; the time includes the prompt, and the better of the rounds counts.
"""
import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAYER = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj":
         "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def tensors(folder):
    """Name and float32 values of every tensor in model.safetensors."""
    with open(folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        for name, about in header.items():
            if name == "__metadata__":
                continue
            first, last = about["data_offsets"]
            file.seek(start + first)
            raw = file.read(last - first)
            if about["dtype"] == "F32":
                values = np.frombuffer(raw, np.float32)
            elif about["dtype"] == "BF16":
                values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                sys.exit(f"generate_peers: {name} is {about['dtype']}; F32 and BF16 are known here")
            yield name, values.reshape(about["shape"])


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def interleave(x, heads):
    """Rotary pairs side by side, as llama.cpp's rotation wants the rows of Q and K."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


def write_gguf(folder, like, target):
    import gguf

    config = json.loads((folder / "config.json").read_text())
    reader, writer = gguf.GGUFReader(like), gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for name, x in tensors(folder):
        parts = name.split(".")
        if name == "model.embed_tokens.weight":
            new = "token_embd.weight"
        elif name == "model.norm.weight":
            new = "output_norm.weight"
        elif name == "lm_head.weight":
            new = "output.weight"
        else:
            part = ".".join(parts[3:-1])
            new = f"blk.{parts[2]}.{LAYER[part]}.weight"
            if part == "self_attn.q_proj":
                x = interleave(x, config["num_attention_heads"])
            elif part == "self_attn.k_proj":
                x = interleave(x, config["num_key_value_heads"])
        if x.ndim == 1:
            writer.add_tensor(new, x)
        else:
            writer.add_tensor(new, to_bf16(x).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def theirs(path, options):
    """Tokens a second, in this process."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), n_ctx=2 * options.tokens + 8, n_batch=max(64, options.tokens), verbose=False,
                            n_threads=options.threads, n_threads_batch=options.threads, logits_all=False)
    prompt = np.random.default_rng(0).integers(1000, model.n_vocab() - 1000, options.tokens).tolist()
    for _ in range(2):  # the first warms up
        model.reset()
        start = time.perf_counter()
        model.eval(prompt)
        for _ in range(options.tokens):
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), (model.n_vocab(),))
            model.eval([int(logits.argmax())])
        seconds = time.perf_counter() - start
    return options.tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=os.environ.get("SEEDCORN_BIN") or str(ROOT / "build/release/bin/seedcorn"))
    parser.add_argument("--model", default=os.environ.get("SEEDCORN_TEST_MODEL")
                        or str(pathlib.Path("~/.cache/seedcorn/smollm2-135m-instruct").expanduser()))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(theirs(options.worker, options)))
        return
    folder = pathlib.Path(options.model)
    quantised = next(folder.glob("*.gguf"), None)
    if quantised is None:
        sys.exit(f"generate_peers: there is no GGUF in {folder}; `seedcorn pull smollm2-135m-instruct` fetches one")
    with tempfile.TemporaryDirectory() as scratch:
        full = pathlib.Path(scratch) / "bf16.gguf"
        write_gguf(folder, quantised, full)
        rates = {"ours, bf16": [], "llama.cpp, bf16": [], f"llama.cpp, {quantised.name.split('.')[-2]}": []}
        ours = [options.seedcorn, "bench", "generate", "--model", options.model, "--rows", "1", "--tokens",
                str(options.tokens), "--repeats", "1", "--dtype", "bf16", "--threads", str(options.threads), "--device", "cpu",
                "--json", "--quiet"]
        worker = [sys.executable, __file__, "--threads", str(options.threads), "--tokens", str(options.tokens), "--worker"]
        for _ in range(options.rounds):
            for name, command in zip(rates, (ours, [*worker, str(full)], [*worker, str(quantised)])):
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode != 0:
                    print(f"generate_peers: {name} ended with code {done.returncode}: {done.stderr.strip()[-200:]}", file=sys.stderr)
                    continue
                found = json.loads(done.stdout)
                rates[name].append(found["per_second"] if isinstance(found, dict) else found)
    if not rates["ours, bf16"]:
        sys.exit(1)
    first = max(rates["ours, bf16"])
    for name, found in rates.items():
        if not found:
            print(f"{name}: not measured, it ended before its time")
            continue
        print(f"{name}: {max(found):.1f} tokens/s, ours is {first / max(found):.2f} times as fast")


if __name__ == "__main__":
    main()
