# The first program of a kernel's container: finds a Python that has ipykernel and becomes it.
# $1: the image's name. $2: a Python, or nothing for the first that will do. $3: "writable" where the working directory
# must be. $4: the program that this Python runs, which starts the kernel with it. Then that program's arguments.
if [ "$3" = writable ] && ! [ -w . ]; then
  echo "the working directory cannot be written to from inside the container, as user $(id -u)" >&2
  exit 126
fi
# In a folder where nobody puts modules.
suits() (
  cd / && command -v "$1" >/dev/null &&
    "$1" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("ipykernel") is None)' 2>/dev/null
)
python=$2
if [ -z "$python" ]; then
  for python in python3 python /opt/*/bin/python3 /opt/*/bin/python ''; do
    suits "$python" && break
  done
elif ! command -v "$python" >/dev/null; then
  echo "$python, which execution_service.image_python names, is not in the image $1" >&2
  exit 127
fi
if [ -z "$python" ]; then
  echo "no Python with ipykernel is in the image $1 (looked at python3, python, /opt/*/bin)." >&2
  echo "To make an image from it that has one: heddle image build --base $1 --tag NAME" >&2
  exit 127
fi
# What the first plot would wait for is there long before it, and the kernel does not wait for it.
[ -d /opt/heddle/home ] && ( cp -R /opt/heddle/home/. "$HOME" >/dev/null 2>&1 </dev/null & )
init=$4
shift 4
exec "$python" -I -S -c "$init" "$python" "$@"
