"""Small models of Hugging Face's, with parameters drawn from a fixed seed."""

import torch
import transformers

#: Tokens, and positions.
VOCABULARY, POSITIONS = 61, 32


def gpt2():
    """A GPT-2 without dropout."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=24,
        n_layer=2,
        n_head=3,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    return transformers.GPT2LMHeadModel(config)


def llama():
    """A Llama."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    return transformers.LlamaForCausalLM(config)


MODELS = {"gpt2": gpt2, "llama": llama}


def model(name, dtype=torch.float64):
    """The model of this name."""
    torch.manual_seed(0)
    return MODELS[name]().to(dtype)
