# What scripts/images and scripts/push share: the engine, and how images are named. To be sourced in the repository's root.

# What the images are made of, as .dockerignore lets it through.
readonly CONTEXT=(.dockerignore LICENSE NOTICE README.md docker pyproject.toml twofold)

find_engine() { # docker or podman: the one asked for, or the first that answers
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

revision() { # the commit, with -dirty where what goes into the images differs from it
  local commit
  commit=$(git rev-parse --verify HEAD)
  if [[ -n $(git status --porcelain -- "${CONTEXT[@]}") ]]; then commit+=-dirty; fi
  echo "$commit"
}

source_address() { # where others find the sources, without the user or token that a remote's address may hold
  local address
  address=$(git remote get-url origin 2>/dev/null || true)
  case $address in
    file://* | /* | .*) echo unknown ;; # a folder of this machine
    *:*) sed -E 's#^([a-z+]+://)[^/@]*@#\1#' <<< "$address" ;;
    *) echo unknown ;;
  esac
}

local_name() { # ENGINE TARGET TAG: podman keeps images without a registry under localhost/
  local prefix=
  if [[ $1 == podman ]]; then prefix=localhost/; fi
  echo "${prefix}twofold-$2:$3"
}
