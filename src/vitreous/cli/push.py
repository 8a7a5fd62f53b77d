"""`vitreous push`: upload a model to the Hugging Face Hub."""

from vitreous.cli.options.weights import Push
from vitreous.cli.parse import parse
from vitreous.training.progress import reporter


def push(arguments: list[str]) -> int:
    """Run `vitreous push`."""
    options = parse(Push, arguments, "push")
    from vitreous.api.publication import push_to_hub

    how = {"private": options.private, "licence": options.licence, "overwrite": options.overwrite}
    display = reporter()
    try:
        found = push_to_hub(options.model, options.repository, reporter=display, **how)
    finally:
        display.close()
    print(found)
    if not options.licence:
        print(
            "licence  none stated; others may not use the model until there is one (--licence apache-2.0 --overwrite)"
        )
    print(f"next: vitreous predict {options.repository} IMAGES...")
    return 0
