"""Shell completion scripts."""

from vitreous.errors import ConfigError, UnknownName

SHELLS = ("bash", "zsh", "fish")


def completion(arguments: list[str]) -> int:
    """Print a script that completes commands and options: eval "$(vitreous completion bash)"."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(
            'usage: vitreous completion bash|zsh|fish\n\n  eval "$(vitreous completion bash)"     completes commands and options'
        )
        return 0
    if len(arguments) != 1:
        raise ConfigError(f"completion takes one argument, the shell: {', '.join(SHELLS)}")
    if arguments[0] not in SHELLS:
        raise UnknownName("shell", arguments[0], SHELLS)
    words = list_words()
    print({"bash": write_bash, "zsh": write_zsh, "fish": write_fish}[arguments[0]](words), end="")
    return 0


def list_words() -> dict[str, list[str]]:
    """Return the options of each command."""
    from vitreous.cli.main import COMMANDS
    from vitreous.cli.option_names import iterate_options
    from vitreous.cli.options.commands import OPTIONS, load_options

    own = ("--help", "--help-all")
    return {
        name: sorted({*iterate_options(load_options(name)), *own}) if name in OPTIONS else list(SHELLS)
        for name in COMMANDS
    }


def write_bash(words: dict[str, list[str]]) -> str:
    """Return the script for bash: options after a dash, files otherwise."""
    cases = "\n".join(f'    {name}) words="{" ".join(listed)}" ;;' for name, listed in words.items())
    return f"""_vitreous() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$current")); return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  case "$current" in -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;; *) COMPREPLY=($(compgen -f -- "$current")) ;; esac
}}
complete -o filenames -F _vitreous vitreous
"""


def write_zsh(words: dict[str, list[str]]) -> str:
    """Return the script for zsh, by way of its bash emulation."""
    return "autoload -U +X bashcompinit && bashcompinit\n" + write_bash(words)


def write_fish(words: dict[str, list[str]]) -> str:
    """Return the script for fish."""
    lines = [f"complete -c vitreous -n __fish_use_subcommand -f -a '{' '.join(words)}'"]
    for name, listed in words.items():
        for word in listed:
            seen = f"-n '__fish_seen_subcommand_from {name}'"
            lines.append(
                f"complete -c vitreous {seen} " + (f"-l '{word[2:]}'" if word.startswith("--") else f"-f -a '{word}'")
            )
    return "\n".join(lines) + "\n"
