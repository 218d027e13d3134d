"""The KFP component between preprocess and the first GPU: warns of gates that no model can pass, and fails no run."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def check_gates(
    preprocess: dict, register: dict, force: str, data: Input[Dataset], data_digest: str, page: Output[Markdown]
) -> None:  # fmt: skip
    """Gates that even a perfect model fails on the test images."""
    from twofold.core.params import check_section
    from twofold.core.progress import say
    from twofold.orchestration.params_file import section_model
    from twofold.orchestration.task import write_output
    from twofold.promotion.attainable_gates import find_in_prepared

    given = {"preprocess": preprocess, "register": register}
    sections = {name: check_section(section_model(name), name, values) for name, values in given.items()}
    found = [str(each) for each in find_in_prepared(data.path, sections)]
    for text in found:
        say(f"check_gates: warning: {text}")
    write_output(page.path, "\n\n".join(found) or "No gate was found that a perfect model fails.")
