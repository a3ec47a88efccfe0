"""Files of the Hugging Face hub, as its library fetches and keeps them; what goes wrong is told in one line."""

from __future__ import annotations

from pathlib import Path

from linnet.config import RequestError, RunError
from linnet.text.files import VOCABULARY_FILES
from linnet.text.folder_settings import SETTINGS_FILES


class HubFiles:
    """Single files of one repository, through the cache; after one failure to connect, only from it.

    Args:
        where: what asked for it, for messages.
        offline: look into the cache only.
    """

    def __init__(self, repository: str, revision: str | None, where: str, offline: bool = False) -> None:
        self._repository, self._revision, self._where = repository, revision, where
        self.offline = offline

    def get_all(self, files: tuple[str, ...]) -> list[Path] | None:
        """The files, or None if one of them is not to be had."""
        found = []
        for file in files:
            path = self.get(file)
            if path is None:
                return None
            found.append(path)
        return found

    def get_tokenizer(self) -> Path | None:
        """The folder of its vocabulary and of what belongs to it, or None if it has none or cannot be reached."""
        for files in VOCABULARY_FILES:
            found = self.get_all(files)
            if not found:
                continue
            extra = ("tokenizer.model",) if found[0].name == "tokenizer.json" else ()
            for file in (*SETTINGS_FILES, *extra):
                self.get(file)
            return found[0].parent
        return None

    def get(self, file: str) -> Path | None:
        """The file, or None if the repository lacks it or cannot be reached.

        Raises:
            RequestError: no such repository or revision, or not for this user.
            RunError: the hub answered with a failure.
        """
        from huggingface_hub import errors as hub_errors
        from huggingface_hub import hf_hub_download

        name, where = self._repository, self._where
        try:
            return Path(hf_hub_download(name, file, revision=self._revision, local_files_only=self.offline))
        except hub_errors.LocalEntryNotFoundError:
            self.offline = True
            return None
        except hub_errors.EntryNotFoundError:
            return None
        except hub_errors.GatedRepoError as error:
            raise RequestError(
                f"{name} asks for its terms to be accepted",
                where,
                "accept them on its hub page, then log in with `hf auth login`",
            ) from error
        except hub_errors.RevisionNotFoundError as error:
            raise RequestError(f"{name} has no revision {self._revision!r}", where) from error
        except hub_errors.RepositoryNotFoundError as error:
            raise RequestError(
                f"the hub has no repository {name}, or it is private", where, "check the name, or log in"
            ) from error
        except (OSError, ValueError) as error:
            raise RunError(f"{file} of {name} could not be fetched ({error})", where, "try again") from error
