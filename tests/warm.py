"""What a server of test processes imports before it forks them."""

import linnet.cli.main
import linnet.hardware
import linnet.infer
import linnet.recipe

linnet.hardware.detect()  # tries a compiler; the answer is kept
