"""The parts of benchmarks/run; only the standard library.

setup         packages, headers, virtual environment, builds
process       starting the producer and a reader, their CPU time and memory
peers         the readers: how each is started and what it counted
rows          what is measured, round by round
kernel_side   the BPF program: instructions, nanoseconds per run
report        medians, ratios, goals, the table, the JSON
plot          the curve as SVG (matplotlib, in the virtual environment)
"""
