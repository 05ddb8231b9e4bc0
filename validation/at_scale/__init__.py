"""What kernels mean at scale: DeepSeek-V3's run with its training's kernels, with this project's, and at a limit of physics.

stacks   folders of stacks that differ in their kernels alone     runs   the variants, and what each run takes
limit    the ceilings of a GPU as a stack                         __main__   writes the table
"""
