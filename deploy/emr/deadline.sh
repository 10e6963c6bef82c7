#!/bin/bash
# A bootstrap action: shuts this machine down when the cluster's lifetime is over,
# even if no sluicegate is left to end it. Argument: the instant, in seconds since
# 1970. EMR ends a cluster whose primary node is gone.
set -u
expires=$1
left=$((expires - $(date +%s)))
if [ "$left" -le 0 ]; then
    echo "deadline: over since $((-left)) seconds, shutting down"
    sudo shutdown -h now
    exit 1
fi
minutes=$(((left + 59) / 60))
echo "deadline: shutting down in $minutes minutes"
sudo shutdown -h "+$minutes"
