"""What git knows of this repository; nothing where there is no git, or no repository."""

import subprocess


def ask_git(*args: str) -> str:
    """What git prints, or nothing if it fails or is not installed."""
    try:
        done = subprocess.run(["git", *args], capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def show_way_back(path: str, md5: str) -> str:
    """The lines that bring a file of DVC's back, once a commit or an experiment holds it, as Markdown."""
    return f"""```bash
commit=$(git log --exclude='refs/exps/exec/*' --all -m --reverse --format=%h -S{md5} -- dvc.lock | head -n 1)
git checkout ${{commit:?none holds it yet}} -- dvc.lock dvc.yaml params.yaml
dvc checkout {path} || dvc pull {path}
```"""
