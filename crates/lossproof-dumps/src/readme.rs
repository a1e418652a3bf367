//! The page that lies in an export: what it is, and how to answer.

use crate::Manifest;

/// The page.
pub(crate) fn readme(manifest: &Manifest) -> String {
    let Manifest { model, claim, cases, reference, .. } = manifest;
    let count = cases.len();
    let name = &model.name;
    let sizes = format!(
        "{} token ids, {} positions, width {}, {} heads, {} blocks",
        model.vocabulary, model.positions, model.width, model.heads, model.layers
    );
    format!(
        r#"# What your trainer has to make of {count} batches

The loss is the {claim}. The model is {name}, a GPT-2 ({sizes}, tied embeddings, tanh-approximated GELU, no dropout).

| file | what is in it |
|---|---|
| `model.safetensors`, `config.json` | the parameters in single precision, as `GPT2LMHeadModel.from_pretrained` reads this folder |
| `cases/001.json` | `batch`: a list of ranks, a rank of micro-batches, a micro-batch of sequences with `input_ids` and `labels` |
| `cases/001.safetensors` | `loss`, `token_losses` of every prediction, `gradients/NAME`: computed by {reference} in double precision |
| `tokens/001.safetensors` | the gradient of every token loss: from these `check` recovers what a token weighs in yours |
| `answers/001.safetensors` | **what you write**: the gradient of each parameter under its name, and the loss under `loss` |

Labels are not shifted: position t predicts label t + 1. A label of -100 is ignored. Sequences differ in length; pad them as
your trainer does. A batch is what one optimizer step sees: run forward and backward over all micro-batches of all ranks as
your trainer does, and write what the optimizer would see, before clipping. One answer is enough to be checked.

```python
import json, torch
from safetensors.torch import save_file
from transformers import GPT2LMHeadModel

model = GPT2LMHeadModel.from_pretrained(".")
for case in {cases:?}:
    batch = json.load(open(f"cases/{{case}}.json"))["batch"]
    model.zero_grad()
    loss = my_trainer_forward_and_backward(model, batch)  # yours, with everything that is around it
    grads = {{name: p.grad.contiguous() for name, p in model.named_parameters() if p.grad is not None}}
    save_file({{"loss": torch.tensor(float(loss), dtype=torch.float64), **grads}}, f"answers/{{case}}.safetensors")
```

Then `lossproof check .` says whether loss and gradients are those of the {claim}, within what rounding explains, and what
each token weighs where they are not. Names may have `transformer.`, `module.` or `_orig_mod.` before them, and projections
may be as PyTorch's `Linear` has them. Element types are F64, F32, BF16 or F16; a trainer that computes in a coarser one than
it writes is checked with `--dtype`.
"#
    )
}
