# SPDX-License-Identifier: GPL-2.0
# Sourced, never run.

# Prints how many seconds 90, 90s, 10m or 1h are; fails for anything else and for 0.
seconds() {
	local n=${1%[smh]} unit=1
	case $1 in *m) unit=60 ;; *h) unit=3600 ;; esac
	[[ $n =~ ^[1-9][0-9]{0,6}$ ]] || return 1
	echo $((n * unit))
}
