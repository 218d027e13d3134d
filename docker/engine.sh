# Shared by docker/images and docker/push: the container engine and the names of images. Source it in the root folder.

# What the images are built from. In Twofold's own repository the wheel is not committed, but made of the other files.
readonly CONTEXT=(.dockerignore docker LICENSE NOTICE pyproject.toml README.md setup.py twofold)

find_engine() { # docker or podman: the one in ENGINE, or the first that answers
  local engine
  for engine in ${ENGINE:-docker podman}; do
    if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then
      echo "$engine"
      return
    fi
  done
  echo "no container engine answers (tried: ${ENGINE:-docker podman}); start docker or install podman" >&2
  return 1
}

revision() { # the commit, with -dirty if the files of the images differ from it
  local commit
  if ! commit=$(git rev-parse --verify --quiet HEAD); then
    echo "no git commit here, and the images are tagged with it; run: git add --all && git commit --message 'First commit'" >&2
    return 1
  fi
  if [[ -n $(git status --porcelain -- "${CONTEXT[@]}") ]]; then commit+=-dirty; fi
  echo "$commit"
}

source_address() { # the public address of the sources, without a user or token
  local address
  address=$(git remote get-url origin 2>/dev/null || true)
  case $address in
    file://* | /* | .*) echo unknown ;; # a folder of this machine
    *:*) sed -E 's#^([a-z+]+://)[^/@]*@#\1#' <<< "$address" ;;
    *) echo unknown ;;
  esac
}

version() { # of Twofold, from the name of the only wheel
  local wheels=(docker/wheel/*.whl)
  if [[ ${#wheels[@]} != 1 || ! -f ${wheels[0]} ]]; then
    echo "docker/wheel/ must hold exactly one wheel of twofold; found: ${wheels[*]}" >&2
    return 1
  fi
  cut -d- -f2 <<< "${wheels[0]##*/}"
}

local_name() { # ENGINE TARGET TAG: podman keeps images without a registry under localhost/
  local prefix=
  if [[ $1 == podman ]]; then prefix=localhost/; fi
  echo "${prefix}twofold-$2:$3"
}
