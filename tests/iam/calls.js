/**
 * What the program calls, and who calls it. `operations()` reads it out of the
 * source, so that a call that is added or dropped there is noticed here.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SOURCE = fileURLToPath(new URL('../../src/aws', import.meta.url))

/** Every operation of the AWS SDK that src/aws uses, and the members of transactions. */
export function operations() {
  const found = new Set()
  for (const file of readdirSync(SOURCE, { recursive: true }).filter((name) => name.endsWith('.rs'))) {
    const text = readFileSync(join(SOURCE, file), 'utf8')
    for (const [, name] of text.matchAll(/\b(?:client|patient)\s*\.\s*([a-z_0-9]+)\(\)/g)) found.add(name)
    for (const [, name] of text.matchAll(/TransactWriteItem::builder\(\)\s*\.\s*([a-z_]+)\(/g)) {
      found.add(`transact:${name}`)
    }
  }
  return [...found].sort()
}

/** The rights that each operation needs; AWS names some differently, or asks for more. */
export const RIGHTS = {
  add_job_flow_steps: ['elasticmapreduce:AddJobFlowSteps'],
  batch_execute_statement: ['redshift-data:BatchExecuteStatement', 'redshift-serverless:GetCredentials'],
  cancel_statement: ['redshift-data:CancelStatement'],
  cancel_steps: ['elasticmapreduce:CancelSteps'],
  change_message_visibility_batch: ['sqs:ChangeMessageVisibility'],
  create_table: ['dynamodb:CreateTable'],
  delete_item: ['dynamodb:DeleteItem'],
  delete_message_batch: ['sqs:DeleteMessage'],
  delete_object: ['s3:DeleteObject'],
  describe_cluster: ['elasticmapreduce:DescribeCluster'],
  describe_statement: ['redshift-data:DescribeStatement'],
  describe_table: ['dynamodb:DescribeTable'],
  describe_time_to_live: ['dynamodb:DescribeTimeToLive'],
  get_item: ['dynamodb:GetItem'],
  get_object: ['s3:GetObject'],
  get_queue_attributes: ['sqs:GetQueueAttributes'],
  get_queue_url: ['sqs:GetQueueUrl'],
  get_statement_result: ['redshift-data:GetStatementResult'],
  get_topic_attributes: ['sns:GetTopicAttributes'],
  head_object: ['s3:GetObject'],
  list_clusters: ['elasticmapreduce:ListClusters'],
  list_objects_v2: ['s3:ListBucket'],
  list_steps: ['elasticmapreduce:ListSteps'],
  publish: ['sns:Publish'],
  put_item: ['dynamodb:PutItem'],
  put_object: ['s3:PutObject'],
  query: ['dynamodb:Query'],
  receive_message: ['sqs:ReceiveMessage'],
  run_job_flow: [
    'elasticmapreduce:RunJobFlow',
    'elasticmapreduce:AddTags',
    'elasticmapreduce:PutAutoTerminationPolicy',
    'elasticmapreduce:PutManagedScalingPolicy',
    'iam:PassRole'
  ],
  scan: ['dynamodb:Scan'],
  send_message: ['sqs:SendMessage'],
  terminate_job_flows: ['elasticmapreduce:TerminateJobFlows'],
  transact_write_items: [],
  'transact:condition_check': ['dynamodb:ConditionCheckItem'],
  'transact:put': ['dynamodb:PutItem'],
  'transact:update': ['dynamodb:UpdateItem'],
  update_item: ['dynamodb:UpdateItem'],
  update_table: ['dynamodb:UpdateTable'],
  update_time_to_live: ['dynamodb:UpdateTimeToLive'],
  wait_until_table_exists: ['dynamodb:DescribeTable']
}

const STATE = ['get_item', 'put_item', 'query', 'update_item', 'transact_write_items']
const TRANSACTIONS = ['transact:condition_check', 'transact:put', 'transact:update']

/** Who makes which of these calls. */
export const CALLERS = {
  TaskRole: [
    ...STATE,
    ...TRANSACTIONS,
    'add_job_flow_steps',
    'batch_execute_statement',
    'cancel_statement',
    'cancel_steps',
    'change_message_visibility_batch',
    'delete_message_batch',
    'describe_cluster',
    'describe_statement',
    'describe_table',
    'describe_time_to_live',
    'get_object',
    'get_queue_url',
    'get_statement_result',
    'get_topic_attributes',
    'list_clusters',
    'list_objects_v2',
    'list_steps',
    'publish',
    'put_object',
    'receive_message',
    'run_job_flow',
    'send_message',
    'terminate_job_flows'
  ],
  // `reap --once`; its container also fetches the configuration.
  ReaperRole: ['describe_cluster', 'get_item', 'get_object', 'list_clusters', 'publish', 'put_item', 'terminate_job_flows'],
  // `gc`, by somebody who has the operator policy too.
  GcPolicy: ['delete_item', 'delete_object', 'get_item', 'list_objects_v2', 'scan'],
  // The other commands.
  OperatorPolicy: [
    ...STATE,
    ...TRANSACTIONS,
    'get_object',
    'get_queue_attributes',
    'get_queue_url',
    'head_object',
    'list_objects_v2',
    'put_object',
    'send_message'
  ]
}

/** `tables create` is for those who do without the template, which makes the tables. */
export const NOBODY = ['create_table', 'update_table', 'update_time_to_live', 'wait_until_table_exists']
