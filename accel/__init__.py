"""Digital accelerators: systolic arrays (and, later, the FPGA deformable-convolution unit)."""
