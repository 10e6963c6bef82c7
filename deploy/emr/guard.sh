# The first step of every submission: claims it in DynamoDB for this cluster, or
# for this very step, and fails when somebody else was faster. EMR then ends the
# cluster (first submission) or cancels what came with it (a later one).
# Arguments: TABLE CLAIM HOLDER REGION; HOLDER is cluster or step.
table=$1 claim=$2 holder=$3 region=$4
info=${SLUICEGATE_JOB_FLOW_JSON:-/mnt/var/lib/info/job-flow.json}
case $holder in
cluster) me=$(sed -n 's/.*"jobFlowId" *: *"\(j-[^"]*\)".*/\1/p' "$info" | head -n 1) ;;
*) me=${PWD##*/steps/} me=${me%%/*} ;;
esac
# Two clusters that claimed by the same wrong word would both work.
case $holder:$me in
cluster:j-?* | step:s-?*) ;;
*)
    echo "guard: cannot tell whose claim this is ($holder, in $PWD)" >&2
    exit 1
    ;;
esac
for pause in 0 2 4 8 15 30 60 60 60 60; do
    sleep "$pause"
    said=$(aws dynamodb update-item --region "$region" --table-name "$table" \
        --cli-connect-timeout 5 --cli-read-timeout 10 \
        --key "{\"id\": {\"S\": \"$claim\"}}" \
        --update-expression 'SET #holder = :me' \
        --condition-expression 'attribute_not_exists(#holder) OR #holder = :me' \
        --expression-attribute-names '{"#holder": "holder"}' \
        --expression-attribute-values "{\":me\": {\"S\": \"$me\"}}" 2>&1)
    if [ $? -eq 0 ]; then
        echo "guard: $me holds $claim"
        exit 0
    fi
    case $said in
    *ConditionalCheckFailed*)
        echo "guard: $claim is held by another than $me: nothing is run here" >&2
        exit 1
        ;;
    esac
    printf '%s\n' "$said" >&2
done
echo "guard: no answer from DynamoDB: nothing is run here" >&2
exit 1
