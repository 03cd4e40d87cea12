"""libseedcorn loaded with ctypes: where it is, what its structs look like, how a call is made."""
import ctypes
import os
import pathlib
import threading

import numpy as np

NAMES = ("libseedcorn.so", "libseedcorn.so.0", "libseedcorn.so.1")
INTERRUPTED = 130


class Error(Exception):
    """A call failed: the library's sentence, and `code`, the exit code of the command line for the same case."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code


class Common(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("device", ctypes.c_char_p), ("dtype", ctypes.c_char_p),
                ("threads", ctypes.c_int64), ("seed", ctypes.c_int64)]


class Progress(ctypes.Structure):
    _fields_ = [("label", ctypes.c_char_p), ("unit", ctypes.c_char_p), ("done", ctypes.c_int64),
                ("total", ctypes.c_int64), ("seconds", ctypes.c_double), ("rate", ctypes.c_double),
                ("remaining", ctypes.c_double), ("note", ctypes.c_char_p), ("finished", ctypes.c_bool)]


class Cap(ctypes.Structure):
    _fields_ = [("offsets", ctypes.c_void_p), ("groups", ctypes.c_void_p), ("n_groups", ctypes.c_int64),
                ("most", ctypes.c_int64)]


class SelectorOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("common", Common), ("strategy", ctypes.c_char_p),
                ("budget", ctypes.c_int64), ("clusters", ctypes.c_int64), ("temperature", ctypes.c_double),
                ("alpha", ctypes.c_double), ("js_form", ctypes.c_char_p), ("lambda", ctypes.c_double),
                ("neighbours", ctypes.c_int64),
                ("centres", ctypes.c_void_p), ("n_centres", ctypes.c_int64), ("items", ctypes.c_void_p),
                ("surprise", ctypes.c_void_p),
                ("given", ctypes.c_void_p), ("n_given", ctypes.c_int64), ("include", ctypes.c_void_p),
                ("n_include", ctypes.c_int64), ("exclude", ctypes.c_void_p), ("caps", ctypes.POINTER(Cap)),
                ("n_caps", ctypes.c_int64), ("costs", ctypes.c_void_p), ("budget_cost", ctypes.c_double)]


class Pick(ctypes.Structure):
    _fields_ = [("row", ctypes.c_int64), ("score", ctypes.c_double), ("gain", ctypes.c_double),
                ("entropy", ctypes.c_double), ("divergence", ctypes.c_double), ("objective", ctypes.c_double),
                ("cluster", ctypes.c_int64)]


class KMeansOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("common", Common), ("clusters", ctypes.c_int64),
                ("max_iterations", ctypes.c_int64), ("tolerance", ctypes.c_double), ("centres", ctypes.c_void_p),
                ("bf16_rows", ctypes.c_int64)]


class KMeansResult(ctypes.Structure):
    _fields_ = [("clusters", ctypes.c_int64), ("inertia", ctypes.c_double), ("iterations", ctypes.c_int64),
                ("repaired", ctypes.c_int64), ("converged", ctypes.c_int64)]


class _AbiMember(ctypes.Structure):
    _fields_ = [("type", ctypes.c_char_p), ("member", ctypes.c_char_p), ("offset", ctypes.c_size_t),
                ("size", ctypes.c_size_t)]


STRUCTS = {"sc_common": Common, "sc_progress": Progress, "sc_selector_options": SelectorOptions, "sc_pick": Pick,
           "sc_cap": Cap, "sc_kmeans_options": KMeansOptions, "sc_kmeans_result": KMeansResult}


def check_layout(members, structs):
    """Raises ImportError where the library's structs are not those of this driver. members: (type, member, offset, size)."""
    seen = {}
    for kind, member, offset, size in members:
        seen.setdefault(kind, set()).add(member)
        struct = structs.get(kind)
        if struct is None:
            continue
        if member == "":
            mine = (0, ctypes.sizeof(struct))
        elif hasattr(struct, member):
            mine = (getattr(struct, member).offset, getattr(struct, member).size)
        else:
            mine = None
        if mine != (offset, size):
            raise ImportError(f"seedcorn: {kind}.{member or '(size)'} lies at {offset}, {size} bytes, in the library, but "
                              f"at {mine} in this driver; they are of different versions")
    for kind, struct in structs.items():
        mine = {name for name, _ in struct._fields_} | {""}
        if mine != seen.get(kind, set()):
            raise ImportError(f"seedcorn: the library knows {kind} with other members than this driver; they are of "
                              f"different versions")


def library_path():
    """SEEDCORN_LIBRARY, else the library beside this file, else a build of the repository that this file lies in."""
    chosen = os.environ.get("SEEDCORN_LIBRARY")
    if chosen:
        return chosen
    here = pathlib.Path(__file__).resolve().parent
    for folder in (here, here / "lib", here.parents[1] / "build" / "release" / "src"):
        for name in NAMES:
            if (folder / name).exists():
                return str(folder / name)
    raise ImportError("seedcorn: no libseedcorn.so beside the package; install it with `pip install .` in the "
                      "repository, or name it with SEEDCORN_LIBRARY")


def _load():
    path = library_path()
    try:
        lib = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"seedcorn: {path} cannot be loaded: {error}") from error
    lib.sc_last_error.restype = ctypes.c_char_p
    lib.sc_version.restype = ctypes.c_char_p
    lib.sc_abi_layout.restype = ctypes.POINTER(_AbiMember)
    n = ctypes.c_size_t()
    members = lib.sc_abi_layout(ctypes.byref(n))
    check_layout([(m.type.decode(), m.member.decode(), m.offset, m.size) for m in members[:n.value]], STRUCTS)
    lib.sc_selector_default.restype = SelectorOptions
    lib.sc_kmeans_default.restype = KMeansOptions
    rows = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    lib.sc_selector_fit.argtypes = [ctypes.POINTER(SelectorOptions), *rows, ctypes.POINTER(Pick),
                                    ctypes.POINTER(ctypes.c_int64)]
    lib.sc_kmeans_fit.argtypes = [ctypes.POINTER(KMeansOptions), *rows, ctypes.c_void_p, ctypes.c_void_p,
                                  ctypes.c_void_p, ctypes.POINTER(KMeansResult)]
    lib.sc_kmeans_fit_many.argtypes = [ctypes.POINTER(KMeansOptions), ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64),
                                       ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
                                       ctypes.POINTER(KMeansResult)]
    lib.sc_kmeans_predict.argtypes = [ctypes.POINTER(KMeansOptions), *rows, ctypes.c_void_p, ctypes.c_void_p]
    return lib


LIBRARY = _load()
_RUNNING = threading.Lock()  # sc_cancel() stops everything that runs, so one call at a time


def version():
    """The library's version."""
    return LIBRARY.sc_version().decode()


def call(function, *arguments):
    """Calls a function that returns sc_status; raises Error with its sentence. Ctrl-C stops it and is raised again."""
    done = {}

    def work():
        done["status"] = function(*arguments)
        done["sentence"] = LIBRARY.sc_last_error().decode("utf-8", "replace")  # of this thread

    with _RUNNING:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        interrupted = False
        while worker.is_alive():
            try:
                worker.join(0.05)
            except KeyboardInterrupt:
                interrupted = True
                LIBRARY.sc_cancel()
        if interrupted:
            LIBRARY.sc_cancel_reset()
            raise KeyboardInterrupt
    if done["status"] != 0:
        raise Error(done["status"], done["sentence"])


def as_rows(x, name="X"):
    """A float32 matrix whose rows follow each other: the caller's own memory where it is that already."""
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, rows and columns, not {x.ndim}")
    if x.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, not {x.dtype}")
    return np.ascontiguousarray(x, dtype=np.float32)


def as_rows_or_bf16(x, dtype=None, name="X"):
    """as_rows, or bf16 as its 16 bits. `dtype` "bf16" says that uint16 is bf16; numpy's void of two bytes, which is what
    ml_dtypes' bfloat16 becomes in a .npy file, and bfloat16 itself say it of themselves."""
    if dtype not in (None, "float32", "bf16"):
        raise ValueError(f'dtype is "{dtype}"; it may be "float32" or "bf16"')
    x = np.asarray(x)
    known = x.dtype == np.dtype("V2") or x.dtype.name == "bfloat16"
    if dtype == "bf16" and not known and x.dtype != np.dtype("<u2"):
        raise TypeError(f"{name} is to hold bf16, as uint16 or two bytes each, not {x.dtype}")
    if dtype == "float32" or not (known or dtype == "bf16"):
        return as_rows(x, name)
    if x.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, rows and columns, not {x.ndim}")
    return np.ascontiguousarray(x).view(np.uint16)


def address(array):
    return None if array is None else array.ctypes.data


def common(options, device, threads, seed):
    options.common.device = device.encode()
    options.common.threads = threads
    options.common.seed = seed
