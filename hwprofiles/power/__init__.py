"""What limits a loaded GPU for seconds: the watts of its board. Energy of kernels, the speed that they leave, and seconds of a
kernel from the state in which it was measured to the chip's fastest.
"""
