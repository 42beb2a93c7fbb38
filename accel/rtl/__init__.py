"""A small systolic array in Verilog and what runs it in Icarus Verilog: the third witness beside closed form and twin."""
