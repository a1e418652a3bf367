"""Times torch.autograd.gradcheck in its fast mode: gpt2-nano in f64, 8 x 24 tokens, per-token mean.

The model has the sizes, the layout and the tied head of the reference's gpt2-nano; the parameters are other numbers,
which costs the same. For every line that it is sent it checks once and answers with the seconds that this took.
"""

import math
import sys
import time

import torch
from torch.nn import functional as F

VOCABULARY, POSITIONS, WIDTH, HEADS, LAYERS = 257, 64, 32, 4, 2
SEQUENCES, LENGTH = 8, 24


def parameters():
    """The tensors of the model, in its order."""
    block = [
        (WIDTH,), (WIDTH,), (WIDTH, 3 * WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,),
        (WIDTH,), (WIDTH,), (WIDTH, 4 * WIDTH), (4 * WIDTH,), (4 * WIDTH, WIDTH), (WIDTH,),
    ]
    shapes = [(VOCABULARY, WIDTH), (POSITIONS, WIDTH), *block * LAYERS, (WIDTH,), (WIDTH,)]
    return [(0.1 * torch.randn(shape, dtype=torch.float64)).requires_grad_() for shape in shapes]


def loss(tokens, wte, wpe, *rest):
    """The mean cross-entropy of every next token."""
    blocks, (gain, bias) = rest[:-2], rest[-2:]
    x = wte[tokens] + wpe[: tokens.shape[1]]
    for layer in range(LAYERS):
        g1, b1, w_in, b_in, w_out, b_out, g2, b2, w_up, b_up, w_down, b_down = blocks[12 * layer : 12 * layer + 12]
        normed = F.layer_norm(x, (WIDTH,), g1, b1)
        heads = [
            part.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for part in (normed @ w_in + b_in).chunk(3, dim=-1)
        ]
        scores = heads[0] @ heads[1].transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        attended = scores.masked_fill(future, -math.inf).softmax(-1) @ heads[2]
        x = x + attended.transpose(1, 2).flatten(2) @ w_out + b_out
        x = x + F.gelu(F.layer_norm(x, (WIDTH,), g2, b2) @ w_up + b_up, approximate="tanh") @ w_down + b_down
    logits = F.layer_norm(x, (WIDTH,), gain, bias) @ wte.T
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def main():
    torch.manual_seed(0)
    row, position = torch.arange(SEQUENCES)[:, None], torch.arange(LENGTH)
    tokens = (row * 8191 + position * 127) % VOCABULARY
    tensors = parameters()
    for _ in sys.stdin:
        started = time.perf_counter()
        torch.autograd.gradcheck(lambda *given: loss(tokens, *given), tensors, fast_mode=True)
        print(time.perf_counter() - started, flush=True)


main()
