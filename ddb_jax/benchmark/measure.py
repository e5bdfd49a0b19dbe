"""Rows of figures of a compiled program, and of the same work in PyTorch."""

import functools
import time
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from ddb_jax.benchmark import machine
from ddb_jax.benchmark.bench import Bench, BenchmarkRow, Turns, in_turns
from ddb_jax.benchmark.compiled import Compiled, compile_twice
from ddb_jax.benchmark.programs import Program

OURS = "ours"
PRODUCT = "matrix product"


def measure(build: Callable[[Bench], list[Program]], bench: Bench) -> list[BenchmarkRow]:
    """The figures of the programs that `build` makes; see `rows` for what they are."""
    found = []
    for program in build(bench):
        compiled = compile_twice(program.function, program.arguments)
        calls = 1 if program.loops else bench.steps
        cases = {OURS: timed(program, compiled, calls)}
        if compiled.flops and not program.loops:
            cases[PRODUCT] = machine.matrix_product(program.dtype)
        peer_facts = {}
        if bench.peer and program.peer:
            task = program.peer()
            for mode in bench.peer.modes:
                peer_facts[mode] = bench.peer.load(mode, task.task, task.expected)
                cases[mode] = functools.partial(bench.peer.run, mode, calls)
        helpers = [bench.peer.pid] if bench.peer else []
        for case in cases.values():
            case()  # warm-up
        turns = in_turns(cases, bench.rounds, helpers)
        found += [
            row._replace(of=program.title) for row in rows(program, compiled, turns, bench.mesh)
        ]
        for mode, first_seconds in peer_facts.items():
            peer_row = BenchmarkRow(
                f"PyTorch, {mode}: first step", "s", [first_seconds], program.title
            )
            found += [peer_row, *comparison(program.title, mode, turns)]
        if peer_facts:
            bench.peer.unload()
    return found


def timed(program: Program, compiled: Compiled, calls: int) -> Callable[[], float]:
    """Runs it that often; returns seconds per call."""
    arguments = program.arguments

    def run() -> float:
        nonlocal arguments
        begin = time.perf_counter()
        for _ in range(calls):
            result = compiled.call(*arguments)
            if program.trains:
                arguments = (result[0], *arguments[1:])
        jax.block_until_ready(result)
        return (time.perf_counter() - begin) / calls

    return run


def rows(
    program: Program, compiled: Compiled, turns: Turns[float], mesh: Mesh
) -> list[BenchmarkRow]:
    """Time, rate, operations, memory and compilation of one program."""
    seconds, foreign = turns.values[OURS], turns.foreign
    done, total = program.evaluations
    images = program.images * done / total  # that a call is worth
    found = []
    if program.evaluations == (1, 1):
        found += [BenchmarkRow("step", "s/step", seconds, foreign=foreign)]
    else:
        found += [BenchmarkRow("image", "s/image", [s / images for s in seconds], foreign=foreign)]
    found += [BenchmarkRow("rate", "images/s", [images / s for s in seconds], foreign=foreign)]
    if PRODUCT in turns.values:
        found += speed(compiled.flops, seconds, turns.values[PRODUCT], mesh, foreign)
        if compiled.bytes_accessed:
            found += [BenchmarkRow("memory accessed a step", "GB", [compiled.bytes_accessed / 1e9])]
    if compiled.memory:
        found += [BenchmarkRow("memory of the program", "MB", [compiled.memory / 1e6])]
    peak = (mesh.devices.flat[0].memory_stats() or {}).get("peak_bytes_in_use")
    if peak:
        found += [BenchmarkRow("memory, most since the start", "MB", [peak / 1e6])]
    return [
        *found,
        BenchmarkRow("compilation, empty cache", "s", [compiled.cold]),
        BenchmarkRow("compilation, from the cache", "s", [compiled.cached]),
    ]


def speed(
    flops: float, seconds: list[float], product_rates: list[float], mesh: Mesh, foreign: list[float]
) -> list[BenchmarkRow]:
    """Operations of a step on one device, those a second, and beside a large matrix product's.

    Args:
        flops: Operations of a step.
        seconds: Seconds per step, round by round.
        product_rates: Operations a second of the matrix product, round by round.
        mesh: The devices.
        foreign: See BenchmarkRow.
    """
    # Emulated devices share the processor.
    devices = mesh.size if mesh.devices.flat[0].platform == "cpu" else 1
    rates = [flops * devices / s for s in seconds]
    percent = [100 * a / b for a, b in zip(rates, product_rates, strict=True)]
    return [
        BenchmarkRow("operations of a step, by the compiler", "GFLOP", [flops * devices / 1e9]),
        BenchmarkRow("operations a second", "GFLOP/s", [r / 1e9 for r in rates], foreign=foreign),
        BenchmarkRow(
            "of a matrix product", "GFLOP/s", [r / 1e9 for r in product_rates], foreign=foreign
        ),
        BenchmarkRow("share of the matrix product's", "%", percent, foreign=foreign),
    ]


def comparison(of: str, mode: str, turns: Turns[float]) -> list[BenchmarkRow]:
    """PyTorch's step; ours divided by it, round by round, by the clock and in processor time."""
    seconds, cpu, foreign = turns.values, turns.cpu, turns.foreign
    by_clock = [a / b for a, b in zip(seconds[OURS], seconds[mode], strict=True)]
    by_processor = [a / b for a, b in zip(cpu[OURS], cpu[mode], strict=True) if b > 0]
    return [
        BenchmarkRow(f"PyTorch, {mode}: step", "s/step", seconds[mode], of, foreign),
        BenchmarkRow(f"ours / PyTorch, {mode}", "ratio", by_clock, of, foreign),
        BenchmarkRow(f"the same in processor time, {mode}", "ratio", by_processor, of, foreign),
    ]
