"""Put a report under its pull request: one comment, which later reports replace.

    python .ci/comment.py report/report.md

Reads GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_TOKEN and PULL_REQUEST, the number. A token that may not write, as that
of a fork's, is no error.
"""

import os
import sys
from pathlib import Path

import requests

MARK = "<!-- report -->"  # what a report begins with
LONGEST = 65_000  # characters that GitHub takes, less a few


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\n\n[…] The whole report is the summary of the job."
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {os.environ['GITHUB_TOKEN']}"
        issues = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
        answer = post(session, issues, text)
    if answer.status_code == 403:
        print("comment: this token may not write here; the report is the summary of the job")
    else:
        answer.raise_for_status()


def post(session: requests.Session, issues: str, text: str) -> requests.Response:
    """Send the text to the first comment that has the mark, or as a new one."""
    url: str | None = f"{issues}/{os.environ['PULL_REQUEST']}/comments?per_page=100"
    while url:
        page = session.get(url, timeout=60)
        if not page.ok:
            return page
        for comment in page.json():
            if comment["body"].startswith(MARK):
                return session.patch(f"{issues}/comments/{comment['id']}", json={"body": text}, timeout=60)
        url = page.links.get("next", {}).get("url")
    return session.post(f"{issues}/{os.environ['PULL_REQUEST']}/comments", json={"body": text}, timeout=60)


if __name__ == "__main__":
    main()
