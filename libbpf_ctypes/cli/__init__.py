"""The commands of ebpf-tool, one module each."""
