"""`orrery convert`: change the format a model is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import MODEL, live


def convert(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    target: Annotated[Path, typer.Argument(help="A file ending in .gguf, or a folder to make.")],
    type: Annotated[
        str,
        typer.Option(
            "--type", "-t",
            help="f32, f16 or bf16; for GGUF also q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k_m, q4_k_s, q4_k_m, q5_k_m, "
            "q6_k, iq4_nl, iq4_xs, tq1_0, tq2_0, mxfp4.",
        ),
    ] = "bf16",
    check: Annotated[
        bool, typer.Option(help="Read the result again and prove that ids, logits and template are right.")
    ] = False,
) -> None:  # fmt: skip
    """Write a model as GGUF (for llama.cpp and its kin) or as a Hugging Face folder (for transformers and its kin).

    Example: orrery convert runs/quickstart model.gguf --type q8_0 --check
    """
    from orrery.kit.log import console
    from orrery.serve.convert import check as verify
    from orrery.serve.convert import convert as run

    with live("convert") as shown:
        opened = run(
            model,
            target,
            kind=type,
            progress=lambda done, total, name: shown.update(done, total, tensor=name),
        )
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    console.print(
        f"wrote '{target}': {sum(path.stat().st_size for path in files) / 1e6:,.1f} MB as {type}",
        soft_wrap=True,
    )
    if check:
        result = verify(target, opened=opened, kind=type)
        console.print(
            f"checked: ids of {result.texts} texts equal; chat template {'equal' if result.template else 'none'}; logits as stored "
            f"within {result.largest:.1e}; {result.kl:.2e} nats a token from the original",
            soft_wrap=True,
        )
    console.print(f'next: orrery generate {target} --prompt "..."', soft_wrap=True, markup=False)
