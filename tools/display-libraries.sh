#!/usr/bin/env bash
# Xvfb and what Qt's xcb platform links to, for real windows without a screen. Installs only what is missing, with apt-get as
# root or through a sudo that asks nothing; elsewhere it names the one line to run.
set -euo pipefail

packages=(xvfb xauth libgl1 libegl1 libgl1-mesa-dri libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0
  libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1 libxcb-util1 libfontconfig1 libglib2.0-0)

[ "$(uname -s)" = Linux ] || exit 0
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  command -v Xvfb >/dev/null || echo "No apt-get here: install Xvfb and the xcb libraries of Qt 6 with your package manager." >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  # newer Debian and Ubuntu call some of them <name>t64
  dpkg-query -W -f='${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ]; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  sudo apt-get update -qq && sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
  echo "System libraries for a window without a screen are missing. Run this one line, then make test again:" >&2
  echo "  sudo sh -c '$line'" >&2
  exit 1
fi
