"""Have LXC make containers of images: lxc-create -t puzzlefs -n NAME -- --url oci:DIR:TAG."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("install", "template-path"),
        help="install the template for `lxc-create -t puzzlefs`; or name it for `lxc-create -t PATH`",
    )
    parser.add_argument(
        "--directory", metavar="DIR", help="where LXC's templates are (default: /usr/share/lxc/templates)"
    )
    parser.add_argument("--uninstall", action="store_true", help="remove what install wrote")


def run(options: argparse.Namespace) -> int:
    from puzzlefs.lxc import install

    if options.action == "template-path":
        print(install.template_path())
    elif options.uninstall:
        install.uninstall(options.directory)
    else:
        print(install.install(options.directory))
    return 0
