"""Steps that look for flat minima: SAM, SAQ's three cases, ESAM and LookSAM, around any optimizer and quantiser.

descent.py  the plain step, which the others replace     places.py   what is moved, and back again
sam.py      gradient, ascent, gradient there, step       saq.py      which gradient, and where it is applied
esam.py     fewer weights and fewer images               looksam.py  every k-th step only
build.py    from the config
"""
