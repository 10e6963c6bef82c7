/**
 * Who may do what, by the template: the promises of the security model, one line
 * each. `allow` and `deny` are what is expected; `never` is a refusal that no other
 * policy of the account can lift.
 */
const ARN = 'arn:aws'
const HERE = 'us-east-1:111122223333'

const cluster = `${ARN}:elasticmapreduce:${HERE}:cluster/j-1ABC`
const ours = { 'elasticmapreduce:ResourceTag/sluicegate:deployment': 'prod' }
const theirs = { 'elasticmapreduce:ResourceTag/sluicegate:deployment': 'test' }
const asked = {
  'aws:RequestTag/sluicegate:deployment': 'prod',
  'aws:RequestTag/sluicegate:run': '01J9',
  'aws:RequestTag/sluicegate:expires-at': '2026-01-01T00:00:00Z'
}
const without = (key) => Object.fromEntries(Object.entries(asked).filter(([name]) => !name.endsWith(key)))

const queue = (name) => `${ARN}:sqs:${HERE}:prod-${name}`
const table = (name) => `${ARN}:dynamodb:${HERE}:table/prod-${name}`
const topic = (name) => `${ARN}:sns:${HERE}:prod-${name}`
const role = (name) => `${ARN}:iam::111122223333:role/${name}`
const landing = `${ARN}:s3:::prod-landing-111122223333-us-east-1`
const work = `${ARN}:s3:::prod-work-111122223333-us-east-1`
const workgroup = `${ARN}:redshift-serverless:${HERE}:workgroup/0f1e2d3c`
const claim = (key, attributes) => ({ 'dynamodb:LeadingKeys': [key], 'dynamodb:Attributes': attributes })
const to = (service) => ({ 'iam:PassedToService': service })

/** [who, whether, action, on what, with which context] */
export const ROLES = [
  // The service: its queues.
  ['TaskRole', 'allow', 'sqs:ReceiveMessage', queue('inbox')],
  ['TaskRole', 'allow', 'sqs:DeleteMessage', queue('inbox')],
  ['TaskRole', 'allow', 'sqs:ChangeMessageVisibility', queue('inbox')],
  ['TaskRole', 'allow', 'sqs:SendMessage', queue('quarantine')],
  ['TaskRole', 'deny', 'sqs:SendMessage', queue('inbox')],
  ['TaskRole', 'deny', 'sqs:ReceiveMessage', queue('dead-letters')],
  ['TaskRole', 'deny', 'sqs:ReceiveMessage', queue('quarantine')],
  ['TaskRole', 'deny', 'sqs:ReceiveMessage', `${ARN}:sqs:${HERE}:test-inbox`],
  ['TaskRole', 'never', 'sqs:PurgeQueue', queue('inbox')],
  // Its topic.
  ['TaskRole', 'allow', 'sns:Publish', topic('status')],
  ['TaskRole', 'deny', 'sns:Publish', topic('alarms')],
  ['TaskRole', 'deny', 'sns:Subscribe', topic('status')],
  // Its tables: nothing is deleted, nothing is scanned.
  ['TaskRole', 'allow', 'dynamodb:UpdateItem', table('task')],
  ['TaskRole', 'allow', 'dynamodb:ConditionCheckItem', table('task')],
  ['TaskRole', 'allow', 'dynamodb:PutItem', table('run')],
  ['TaskRole', 'allow', 'dynamodb:Query', `${table('run')}/index/due`],
  ['TaskRole', 'allow', 'dynamodb:PutItem', table('file-unit')],
  ['TaskRole', 'deny', 'dynamodb:UpdateItem', table('file-unit')],
  ['TaskRole', 'deny', 'dynamodb:Query', `${table('run')}/index/recent`],
  ['TaskRole', 'deny', 'dynamodb:PutItem', `${ARN}:dynamodb:${HERE}:table/test-task`],
  ['TaskRole', 'deny', 'dynamodb:GetItem', `${ARN}:dynamodb:${HERE}:table/test-run`],
  ['TaskRole', 'deny', 'dynamodb:PutItem', `${ARN}:dynamodb:${HERE}:table/test-run`],
  ['TaskRole', 'deny', 'dynamodb:PutItem', `${ARN}:dynamodb:${HERE}:table/test-file-unit`],
  ['TaskRole', 'deny', 'dynamodb:Query', `${ARN}:dynamodb:${HERE}:table/test-run/index/due`],
  ['TaskRole', 'deny', 'dynamodb:DescribeTable', `${ARN}:dynamodb:${HERE}:table/test-task`],
  ['TaskRole', 'deny', 'dynamodb:DescribeTimeToLive', `${ARN}:dynamodb:${HERE}:table/test-task`],
  ['TaskRole', 'deny', 'dynamodb:CreateTable', table('task')],
  ['TaskRole', 'deny', 'dynamodb:UpdateTable', table('task')],
  ['TaskRole', 'never', 'dynamodb:DeleteItem', table('task')],
  ['TaskRole', 'never', 'dynamodb:Scan', table('task')],
  ['TaskRole', 'never', 'dynamodb:DeleteTable', table('run')],
  // Clusters: only with the tags by which they are found and ended again.
  ['TaskRole', 'allow', 'elasticmapreduce:RunJobFlow', '*', asked],
  ['TaskRole', 'deny', 'elasticmapreduce:RunJobFlow', '*', {}],
  ['TaskRole', 'deny', 'elasticmapreduce:RunJobFlow', '*', { ...asked, 'aws:RequestTag/sluicegate:deployment': 'test' }],
  ['TaskRole', 'deny', 'elasticmapreduce:RunJobFlow', '*', without('run')],
  ['TaskRole', 'deny', 'elasticmapreduce:RunJobFlow', '*', without('expires-at')],
  ['TaskRole', 'deny', 'elasticmapreduce:RunJobFlow', '*', { ...asked, 'aws:RequestedRegion': 'eu-west-1' }],
  ['TaskRole', 'allow', 'elasticmapreduce:AddTags', cluster, asked],
  ['TaskRole', 'deny', 'elasticmapreduce:AddTags', cluster, { ...asked, 'aws:RequestTag/sluicegate:deployment': 'test' }],
  ['TaskRole', 'deny', 'elasticmapreduce:AddTags', cluster, { ...asked, ...theirs }],
  ['TaskRole', 'allow', 'elasticmapreduce:PutAutoTerminationPolicy', cluster, {}],
  ['TaskRole', 'allow', 'elasticmapreduce:PutManagedScalingPolicy', cluster, ours],
  ['TaskRole', 'deny', 'elasticmapreduce:PutAutoTerminationPolicy', cluster, theirs],
  ['TaskRole', 'deny', 'elasticmapreduce:RemoveAutoTerminationPolicy', cluster, ours],
  ['TaskRole', 'never', 'elasticmapreduce:RemoveTags', cluster, ours],
  ['TaskRole', 'allow', 'elasticmapreduce:TerminateJobFlows', cluster, ours],
  ['TaskRole', 'deny', 'elasticmapreduce:TerminateJobFlows', cluster, theirs],
  ['TaskRole', 'deny', 'elasticmapreduce:TerminateJobFlows', cluster, {}],
  ['TaskRole', 'allow', 'elasticmapreduce:AddJobFlowSteps', cluster, ours],
  ['TaskRole', 'deny', 'elasticmapreduce:AddJobFlowSteps', cluster, theirs],
  ['TaskRole', 'allow', 'elasticmapreduce:CancelSteps', cluster, ours],
  ['TaskRole', 'deny', 'elasticmapreduce:CancelSteps', cluster, {}],
  ['TaskRole', 'allow', 'elasticmapreduce:DescribeCluster', cluster, ours],
  ['TaskRole', 'deny', 'elasticmapreduce:DescribeCluster', cluster, theirs],
  ['TaskRole', 'allow', 'elasticmapreduce:ListSteps', cluster, ours],
  ['TaskRole', 'never', 'elasticmapreduce:SetTerminationProtection', cluster, ours],
  ['TaskRole', 'allow', 'elasticmapreduce:ListClusters', '*'],
  // Roles: two, each to one service.
  ['TaskRole', 'allow', 'iam:PassRole', role('EmrServiceRole'), to('elasticmapreduce.amazonaws.com')],
  ['TaskRole', 'deny', 'iam:PassRole', role('EmrServiceRole'), to('ec2.amazonaws.com')],
  ['TaskRole', 'allow', 'iam:PassRole', role('EmrMachineRole'), to('ec2.amazonaws.com')],
  ['TaskRole', 'deny', 'iam:PassRole', role('EmrMachineRole'), to('lambda.amazonaws.com')],
  ['TaskRole', 'deny', 'iam:PassRole', role('Admin'), to('ec2.amazonaws.com')],
  ['TaskRole', 'never', 'iam:PutRolePolicy', role('TaskRole')],
  // Objects: lists, its configuration and logs; the data is not its business.
  ['TaskRole', 'allow', 's3:ListBucket', landing],
  ['TaskRole', 'deny', 's3:ListBucket', `${ARN}:s3:::somebody-elses`],
  ['TaskRole', 'deny', 's3:ListBucket', landing, { 'aws:ResourceAccount': '999988887777' }],
  ['TaskRole', 'deny', 's3:GetObject', `${landing}/rawdata/2013/01/01/05/a.gz`],
  ['TaskRole', 'deny', 's3:GetObject', `${work}/results/part-0.parquet`],
  ['TaskRole', 'deny', 's3:GetObject', `${work}/code/etl.py`],
  ['TaskRole', 'allow', 's3:GetObject', `${work}/config/tasks/etl.toml`],
  ['TaskRole', 'deny', 's3:GetObject', `${work}/config/tasks/etl.toml`, { 'aws:ResourceAccount': '999988887777' }],
  ['TaskRole', 'deny', 's3:PutObject', `${work}/manifests/m.json`, { 'aws:ResourceAccount': '999988887777' }],
  ['TaskRole', 'allow', 's3:GetObject', `${work}/logs/j-1ABC/steps/s-1/stderr.gz`],
  ['TaskRole', 'deny', 's3:PutObject', `${work}/config/sluicegate.toml`],
  ['TaskRole', 'deny', 's3:PutObject', `${work}/assets/deadline.sh`],
  ['TaskRole', 'allow', 's3:PutObject', `${work}/manifests/m.json`],
  ['TaskRole', 'never', 's3:DeleteObject', `${work}/manifests/m.json`],
  // The warehouse: its own statements, whichever replica sent them.
  ['TaskRole', 'allow', 'redshift-data:BatchExecuteStatement', workgroup],
  ['TaskRole', 'deny', 'redshift-data:BatchExecuteStatement', `${ARN}:redshift-serverless:${HERE}:workgroup/other`],
  ['TaskRole', 'allow', 'redshift-data:DescribeStatement', '*', { 'redshift-data:statement-owner-iam-userid': 'AROATASKROLE:older' }],
  ['TaskRole', 'deny', 'redshift-data:GetStatementResult', '*', { 'redshift-data:statement-owner-iam-userid': 'AROAOTHER:x' }],
  // People: what the commands put and read.
  ['OperatorPolicy', 'allow', 's3:PutObject', `${work}/assets/deadline.sh`],
  ['OperatorPolicy', 'allow', 's3:PutObject', `${work}/code/etl.py`],
  ['OperatorPolicy', 'allow', 's3:PutObject', `${work}/config/tasks/etl.toml`],
  ['OperatorPolicy', 'deny', 's3:PutObject', `${work}/results/part-0.parquet`],
  ['OperatorPolicy', 'allow', 's3:ListBucket', work],
  ['OperatorPolicy', 'allow', 's3:GetObject', `${landing}/rawdata/2013/01/01/05/a.gz`],
  ['OperatorPolicy', 'allow', 's3:GetObject', `${work}/logs/j-1ABC/steps/s-1/stderr.gz`],
  ['OperatorPolicy', 'deny', 's3:GetObject', `${work}/results/part-0.parquet`],
  // The machines of clusters: the guard writes claims and nothing else.
  ['EmrMachineRole', 'allow', 'dynamodb:UpdateItem', table('run'), claim('claim/01J9/1/1', ['id', 'holder'])],
  ['EmrMachineRole', 'deny', 'dynamodb:UpdateItem', table('run'), claim('01J9', ['id', 'holder'])],
  ['EmrMachineRole', 'deny', 'dynamodb:UpdateItem', table('run'), claim('claim/01J9/1/1', ['id', 'holder', 'state'])],
  ['EmrMachineRole', 'deny', 'dynamodb:UpdateItem', table('run'), {}],
  ['EmrMachineRole', 'deny', 'dynamodb:UpdateItem', table('run'), { ...claim('claim/01J9/1/1', ['id', 'holder']), 'dynamodb:ReturnValues': 'ALL_OLD' }],
  ['EmrMachineRole', 'deny', 'dynamodb:GetItem', table('run'), claim('claim/01J9/1/1', ['id', 'holder'])],
  ['EmrMachineRole', 'deny', 'dynamodb:PutItem', table('run'), claim('claim/01J9/1/1', ['id', 'holder'])],
  ['EmrMachineRole', 'deny', 'dynamodb:UpdateItem', table('task'), claim('claim/01J9/1/1', ['id', 'holder'])],
  ['EmrMachineRole', 'allow', 's3:GetObject', `${landing}/rawdata/2013/01/01/05/a.gz`],
  ['EmrMachineRole', 'allow', 's3:GetObject', `${ARN}:s3:::us-east-1.elasticmapreduce/libs/script-runner/script-runner.jar`],
  ['EmrMachineRole', 'deny', 's3:PutObject', `${landing}/rawdata/2013/01/01/05/a.gz`],
  ['EmrMachineRole', 'allow', 's3:PutObject', `${work}/results/part-0.parquet`],
  ['EmrMachineRole', 'allow', 's3:PutObject', `${work}/logs/j-1ABC/node/x.gz`],
  ['EmrMachineRole', 'deny', 's3:PutObject', `${work}/code/etl.py`],
  ['EmrMachineRole', 'deny', 's3:PutObject', `${work}/assets/deadline.sh`],
  ['EmrMachineRole', 'deny', 's3:GetObject', `${work}/config/sluicegate.toml`],
  ['EmrMachineRole', 'deny', 'elasticmapreduce:TerminateJobFlows', cluster, ours],
  ['EmrServiceRole', 'allow', 'iam:PassRole', role('EmrMachineRole'), to('ec2.amazonaws.com')],
  ['EmrServiceRole', 'deny', 'iam:PassRole', role('TaskRole'), to('ec2.amazonaws.com')],
  // The reaper: looks, ends, tells.
  ['ReaperRole', 'allow', 'elasticmapreduce:TerminateJobFlows', cluster, ours],
  ['ReaperRole', 'deny', 'elasticmapreduce:TerminateJobFlows', cluster, theirs],
  ['ReaperRole', 'allow', 'dynamodb:GetItem', table('run')],
  ['ReaperRole', 'deny', 'dynamodb:PutItem', table('run')],
  ['ReaperRole', 'deny', 'dynamodb:GetItem', table('task')],
  ['ReaperRole', 'deny', 'dynamodb:GetItem', `${ARN}:dynamodb:${HERE}:table/test-run`],
  ['ReaperRole', 'allow', 's3:GetObject', `${work}/config/sluicegate.toml`],
  ['ReaperRole', 'deny', 's3:GetObject', `${work}/results/part-0.parquet`],
  ['ReaperRole', 'allow', 'dynamodb:PutItem', table('task'), { 'dynamodb:LeadingKeys': ['~notice/2026-01-31'] }],
  ['ReaperRole', 'deny', 'dynamodb:PutItem', table('task'), { 'dynamodb:LeadingKeys': ['etl'] }],
  ['ReaperRole', 'deny', 'dynamodb:PutItem', table('task'), {}],
  ['ReaperRole', 'allow', 'sns:Publish', topic('status')],
  ['ReaperRole', 'deny', 'elasticmapreduce:RunJobFlow', '*', asked],
  ['ReaperRole', 'deny', 'iam:PassRole', role('EmrMachineRole'), to('ec2.amazonaws.com')],
  // What starts it.
  ['ScheduleRole', 'allow', 'ecs:RunTask', `${ARN}:ecs:${HERE}:task-definition/prod-reaper:1`, { 'ecs:cluster': `${ARN}:ecs:${HERE}:cluster/prod-sluicegate` }],
  ['ScheduleRole', 'deny', 'ecs:RunTask', `${ARN}:ecs:${HERE}:task-definition/prod-sluicegate:1`, { 'ecs:cluster': `${ARN}:ecs:${HERE}:cluster/prod-sluicegate` }],
  ['ScheduleRole', 'allow', 'iam:PassRole', role('ReaperRole'), to('ecs-tasks.amazonaws.com')],
  ['ScheduleRole', 'deny', 'iam:PassRole', role('TaskRole'), to('ecs-tasks.amazonaws.com')],
  ['ExecutionRole', 'allow', 'secretsmanager:GetSecretValue', `${ARN}:secretsmanager:${HERE}:secret:kdc`],
  ['ExecutionRole', 'deny', 'secretsmanager:GetSecretValue', `${ARN}:secretsmanager:${HERE}:secret:other`],
  // People with the command line.
  ['OperatorPolicy', 'allow', 'dynamodb:UpdateItem', table('task')],
  ['OperatorPolicy', 'deny', 'dynamodb:DeleteTable', table('task')],
  ['OperatorPolicy', 'deny', 'dynamodb:DeleteItem', table('task')],
  ['OperatorPolicy', 'deny', 's3:DeleteObject', `${work}/config/sluicegate.toml`],
  ['OperatorPolicy', 'allow', 'sqs:SendMessage', queue('inbox')],
  ['OperatorPolicy', 'deny', 'sqs:ReceiveMessage', queue('inbox')],
  ['OperatorPolicy', 'allow', 's3:PutObject', `${work}/assets/deadline.sh`],
  ['OperatorPolicy', 'deny', 'elasticmapreduce:RunJobFlow', '*', asked],
  ['GcPolicy', 'allow', 'dynamodb:DeleteItem', table('file-unit')],
  ['GcPolicy', 'deny', 'dynamodb:PutItem', table('task')],
  ['GcPolicy', 'allow', 's3:DeleteObject', `${work}/manifests/m.json`],
  ['GcPolicy', 'deny', 's3:DeleteObject', `${work}/results/part-0.parquet`],
  // Firehose and COPY.
  ['FirehoseRole', 'allow', 's3:PutObject', `${landing}/rawdata/2013/01/01/05/a.gz`],
  ['FirehoseRole', 'deny', 's3:PutObject', `${landing}/partners/a.gz`],
  ['WarehouseRole', 'allow', 's3:GetObject', `${work}/results/part-0.parquet`],
  ['WarehouseRole', 'deny', 's3:GetObject', `${landing}/rawdata/2013/01/01/05/a.gz`]
]

const from = (source, account = '111122223333') => ({ 'aws:SourceArn': source, 'aws:SourceAccount': account })
const s3 = 's3.amazonaws.com'
const events = 'events.amazonaws.com'
const alarms = 'cloudwatch.amazonaws.com'
const admin = 'arn:aws:iam::111122223333:role/Admin'
const plain = { 'aws:SecureTransport': 'false' }

/** [which policy, whether, who asks, action, on what, with which context] */
export const RESOURCES = [
  ['InboxPolicy', 'allow', s3, 'sqs:SendMessage', queue('inbox'), from(landing)],
  ['InboxPolicy', 'deny', s3, 'sqs:SendMessage', queue('inbox'), from(`${ARN}:s3:::somebody-elses`)],
  ['InboxPolicy', 'deny', s3, 'sqs:SendMessage', queue('inbox'), from(landing, '999988887777')],
  ['InboxPolicy', 'allow', events, 'sqs:SendMessage', queue('inbox'), from(`${ARN}:events:${HERE}:rule/EmrEvents`)],
  ['InboxPolicy', 'deny', events, 'sqs:SendMessage', queue('inbox'), from(`${ARN}:events:${HERE}:rule/Another`)],
  ['InboxPolicy', 'deny', s3, 'sqs:ReceiveMessage', queue('inbox'), from(landing)],
  ['InboxPolicy', 'never', admin, 'sqs:ReceiveMessage', queue('inbox'), plain],
  ['QuarantinePolicy', 'never', admin, 'sqs:SendMessage', queue('quarantine'), plain],
  ['DeadLettersPolicy', 'never', admin, 'sqs:ReceiveMessage', queue('dead-letters'), plain],
  ['StatusTopicPolicy', 'never', admin, 'sns:Publish', topic('status'), plain],
  ['AlarmTopicPolicy', 'allow', alarms, 'sns:Publish', topic('alarms'), from(`${ARN}:cloudwatch:${HERE}:alarm:prod-heartbeat`)],
  ['AlarmTopicPolicy', 'deny', alarms, 'sns:Publish', topic('alarms'), from(`${ARN}:cloudwatch:${HERE}:alarm:other`)],
  ['LandingBucketPolicy', 'never', admin, 's3:GetObject', `${landing}/rawdata/a.gz`, plain],
  ['WorkBucketPolicy', 'never', admin, 's3:PutObject', `${work}/config/sluicegate.toml`, plain]
]
