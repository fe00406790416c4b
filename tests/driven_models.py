"""Small random models as other libraries write them, each into a folder: for tests of drivers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIDE = 16  # pixels
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
         "num_attention_heads": 2}  # fmt: skip
TIMES = [f"<|{number / 50:.2f}|>" for number in range(1501)]
MARKS = [
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>",
    "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
]  # fmt: skip


def clip_tokenizer(folder: Path, most: int) -> dict[str, int]:
    """The tokenizer of CLIP with a vocabulary of bytes, and the numbers of its marks."""
    import transformers
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = letters + [letter + "</w>" for letter in letters]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    made = transformers.CLIPTokenizer(vocab=numbers, merges=[], model_max_length=most)
    made.save_pretrained(folder)
    start, end = numbers["<|startoftext|>"], numbers["<|endoftext|>"]
    return {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end,
            "vocab_size": len(vocabulary)}  # fmt: skip


def write_clip(folder: Path) -> Any:
    """CLIP of one layer, for pictures of 16x16."""
    import transformers

    marks = clip_tokenizer(folder, 24)
    config = transformers.CLIPConfig(
        text_config={**SIZES, **marks, "max_position_embeddings": 24},
        vision_config={**SIZES, "image_size": SIDE, "patch_size": 8},
        projection_dim=12,
    )
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(folder)
    side = {"height": SIDE, "width": SIDE}
    transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=side).save_pretrained(
        folder
    )
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A small one\n")
    return model


def write_whisper(folder: Path) -> Any:
    """Whisper of one layer, of two languages, which writes whatever its random weights say."""
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    made.add_tokens([AddedToken(time, special=False) for time in TIMES])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    number = {mark: made.token_to_id(mark) for mark in MARKS}
    end = number["<|endoftext|>"]
    told = {"tokenizer_class": "WhisperTokenizer", "bos_token": MARKS[0], "eos_token": MARKS[0],
            "unk_token": MARKS[0], "pad_token": MARKS[0]}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    config = transformers.WhisperConfig(
        vocab_size=made.get_vocab_size(), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_ffn_dim=24, max_target_positions=40, num_mel_bins=8, bos_token_id=end,
        eos_token_id=end, pad_token_id=end, decoder_start_token_id=number[MARKS[1]],
        suppress_tokens=[], begin_suppress_tokens=[end],
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
        decoder_start_token_id=number[MARKS[1]], is_multilingual=True,
        no_timestamps_token_id=number["<|notimestamps|>"], max_initial_timestamp_index=50,
        lang_to_id={name: number[name] for name in ("<|en|>", "<|de|>")},
        task_to_id={name: number[f"<|{name}|>"] for name in ("translate", "transcribe")},
        suppress_tokens=[], begin_suppress_tokens=[end], max_length=40,
        prev_sot_token_id=number["<|startofprev|>"],
    )  # fmt: skip
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    return model


def write_stable_diffusion(folder: Path) -> Any:
    """A pipeline for pictures of 16x16, the smallest modules of each kind, with a checker."""
    import transformers
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    seen = {**SIZES, "image_size": SIDE, "patch_size": 8, "projection_dim": 8}
    config = transformers.CLIPConfig(vision_config=seen, projection_dim=8)
    side = {"height": SIDE, "width": SIDE}
    return _written(
        StableDiffusionPipeline, folder, text_encoder=_text_encoder(folder / "tokenizer"),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=_unet(), safety_checker=StableDiffusionSafetyChecker(config).eval(),
        feature_extractor=transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size=side
        ),
    )  # fmt: skip


def write_inpainting(folder: Path) -> Any:
    """The same, of a network that is told of a picture and of what is hidden in it."""
    import transformers
    from diffusers import StableDiffusionInpaintPipeline

    return _written(
        StableDiffusionInpaintPipeline, folder, unet=_unet(in_channels=9), safety_checker=None,
        text_encoder=_text_encoder(folder / "tokenizer"), feature_extractor=None,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        requires_safety_checker=False,
    )  # fmt: skip


def write_xl(folder: Path) -> Any:
    """The larger kind, with two readers of the prompt."""
    import transformers
    from diffusers import StableDiffusionXLPipeline

    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    told |= {"projection_class_embeddings_input_dim": 6 * 4 + 8, "cross_attention_dim": 32}
    names = ("tokenizer", "tokenizer_2")
    first, second = (transformers.CLIPTokenizer, transformers.CLIPTextModelWithProjection)
    return _written(
        StableDiffusionXLPipeline, folder, unet=_unet(**told),
        text_encoder=_text_encoder(folder / "tokenizer"),
        text_encoder_2=_text_encoder(folder / "tokenizer_2", second),
        **{name: first.from_pretrained(folder / name) for name in names},
    )  # fmt: skip


def _unet(**options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    given = {"in_channels": 4, "cross_attention_dim": 16, **options}
    return UNet2DConditionModel(
        sample_size=8, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, attention_head_dim=4, **given,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip


def _text_encoder(folder: Path, kind: Any = None) -> Any:
    """A reader of prompts, whose tokenizer goes into a folder."""
    import transformers

    marks = clip_tokenizer(folder, 24)
    config = transformers.CLIPTextConfig(
        **SIZES, **marks, max_position_embeddings=24, projection_dim=8
    )
    return (kind or transformers.CLIPTextModel)(config).eval()


def _written(kind: Any, folder: Path, **parts: Any) -> Any:
    """A pipeline of these parts, written into a folder."""
    import diffusers

    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
        layers_per_block=1, sample_size=16,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    pipe = kind(vae=vae.eval(), scheduler=scheduler, **parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    return pipe
