/**
 * The calls of the program against the rights of the template: none missing, none
 * unused. And every request that the daemon sent in its tests, against its role:
 * `cargo test --test daemon` writes them into target/requests.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CALLERS, NOBODY, RIGHTS, operations } from './calls.js'
import { ACCOUNT, REGION, policies, resolved } from './template.js'
import { mayDo } from './simulate.js'

const REQUESTS = fileURLToPath(new URL('../../target/requests', import.meta.url))

/** The deployment of the daemon's tests. */
const { resources } = resolved({
  Deployment: 'test',
  Vpc: 'vpc-1',
  Subnets: 'subnet-1',
  Image: 'sluicegate:0.1.0',
  Replicas: 1,
  Warehouse: 'redshift-serverless'
})

test('every call in the source is known here, and nothing else', () => {
  const callers = [...NOBODY, ...Object.values(CALLERS).flat()]
  assert.deepEqual(operations(), [...new Set(callers)].sort(), 'the callers in calls.js')
  assert.deepEqual(operations(), Object.keys(RIGHTS).sort(), 'the rights in calls.js')
})

for (const [caller, calls] of Object.entries(CALLERS)) {
  test(`${caller} has the rights for its calls, and no others`, () => {
    const statements = policies(resources, caller).flatMap(({ policy }) => policy.Statement)
    const granted = statements.filter(({ Effect }) => Effect === 'Allow').flatMap(({ Action }) => Action)
    const needed = calls.flatMap((call) => RIGHTS[call])
    assert.deepEqual([...new Set(granted)].sort(), [...new Set(needed)].sort())
  })
}

const here = (service, rest) => `arn:aws:${service}:${REGION}:${ACCOUNT}:${rest}`
const table = (name) => here('dynamodb', `table/${name}`)
const MEMBERS = { Put: 'PutItem', Update: 'UpdateItem', ConditionCheck: 'ConditionCheckItem', Delete: 'DeleteItem' }
/** What the tests themselves do, to set up (`tables create`), to disturb and to look. */
const TESTERS = {
  dynamodb: ['CreateTable', 'UpdateTable', 'UpdateTimeToLive', 'DeleteItem', 'DeleteTable'],
  sqs: ['CreateQueue', 'DeleteQueue'],
  sns: ['CreateTopic', 'DeleteTopic', 'Subscribe'],
  events: ['PutRule', 'PutTargets'],
  'redshift-data': ['ExecuteStatement']
}

/** The questions to IAM that one request raises. */
function questions({ service, action, body }) {
  if (TESTERS[service]?.includes(action)) return []
  if (service === 'sns') return [{ action: `sns:${action}`, resource: here('sns', 'test-status') }]
  const asked = JSON.parse(body)
  switch (service) {
    case 'dynamodb': {
      if (action === 'TransactWriteItems') {
        return asked.TransactItems.flatMap(Object.entries).map(([member, { TableName }]) => ({
          action: `dynamodb:${MEMBERS[member]}`,
          resource: table(TableName)
        }))
      }
      const index = asked.IndexName ? `/index/${asked.IndexName}` : ''
      return [{ action: `dynamodb:${action}`, resource: table(asked.TableName) + index }]
    }
    case 'sqs': {
      const name = (asked.QueueUrl ?? asked.QueueName).split('/').at(-1)
      return [{ action: `sqs:${action.replace(/Batch$/, '')}`, resource: here('sqs', `test-${name}`) }]
    }
    case 'elasticmapreduce': {
      if (action === 'ListClusters') return [{ action: 'elasticmapreduce:ListClusters', resource: '*' }]
      if (action !== 'RunJobFlow') {
        const context = { 'elasticmapreduce:ResourceTag/sluicegate:deployment': 'test' }
        return [{ action: `elasticmapreduce:${action}`, resource: here('elasticmapreduce', 'cluster/j-1'), context }]
      }
      // Clusters that tests make up in the name of others never end by themselves.
      if (asked.AutoTerminationPolicy === undefined) return []
      const context = Object.fromEntries(asked.Tags.map(({ Key, Value }) => [`aws:RequestTag/${Key}`, Value]))
      return [
        { action: 'elasticmapreduce:RunJobFlow', resource: '*', context },
        { action: 'elasticmapreduce:AddTags', resource: here('elasticmapreduce', 'cluster/j-1'), context },
        // There is no cluster yet that could bear a tag.
        ...['AutoTermination', 'ManagedScaling']
          .filter((policy) => asked[`${policy}Policy`] !== undefined)
          .map((policy) => ({
            action: `elasticmapreduce:Put${policy}Policy`,
            resource: here('elasticmapreduce', 'cluster/j-1')
          }))
      ]
    }
    case 'redshift-data': {
      const resource = here('redshift-serverless', 'workgroup/0f1e2d3c')
      if (action === 'BatchExecuteStatement') return [{ action: 'redshift-data:BatchExecuteStatement', resource }]
      const context = { 'redshift-data:statement-owner-iam-userid': 'AROATASKROLE:older' }
      return [{ action: `redshift-data:${action}`, resource: '*', context }]
    }
  }
  throw new Error(`the tests sent ${action} of ${service}, which is not known here`)
}

test('every request of the daemon’s tests is allowed', { skip: !existsSync(REQUESTS) && 'no requests yet' }, async () => {
  const seen = new Map()
  for (const file of readdirSync(REQUESTS).filter((name) => name.endsWith('.jsonl'))) {
    for (const line of readFileSync(join(REQUESTS, file), 'utf8').split('\n').filter(Boolean)) {
      for (const question of questions(JSON.parse(line))) seen.set(JSON.stringify(question), [file, question])
    }
  }
  assert.ok(seen.size > 0, 'no test has sent anything')
  const refused = []
  for (const [file, question] of seen.values()) {
    // The tests of commands are an operator's.
    const results = await Promise.all(
      ['TaskRole', 'OperatorPolicy', 'GcPolicy'].map((caller) => mayDo(resources, caller, question))
    )
    if (!results.includes('Allowed')) refused.push([file, question])
  }
  assert.deepEqual(refused, [])
})
