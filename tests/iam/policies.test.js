/** Every line of `cases.js`, by IAM's rules. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { RESOURCES, ROLES } from './cases.js'
import { letsDo, mayDo } from './simulate.js'
import { resolved } from './template.js'

const RESULTS = { allow: 'Allowed', deny: 'ImplicitlyDenied', never: 'ExplicitlyDenied' }

/** With everything switched on, so that every role is there. */
const { resources } = resolved({
  Deployment: 'prod',
  Vpc: 'vpc-1',
  Subnets: 'subnet-1,subnet-2,subnet-3',
  Image: 'sluicegate:0.1.0',
  Replicas: 1,
  Stream: 'firehose',
  Warehouse: 'redshift-serverless',
  KdcPasswordSecretArn: 'arn:aws:secretsmanager:us-east-1:111122223333:secret:kdc'
})

for (const [role, expected, action, resource, context = {}] of ROLES) {
  test(`${role}: ${expected} ${action} on ${resource} ${JSON.stringify(context)}`, async () => {
    const result = await mayDo(resources, role, { action, resource, context })
    assert.equal(result, RESULTS[expected])
  })
}

/** An administrator of the account, whom only a refusal can stop. */
const EVERYTHING = [
  {
    name: 'everything',
    policy: { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }
  }
]

for (const [policy, expected, principal, action, resource, context = {}] of RESOURCES) {
  test(`${policy}: ${expected} ${principal} ${action} ${JSON.stringify(context)}`, async () => {
    const { PolicyDocument } = resources[policy].properties
    const rights = principal.startsWith('arn:') ? EVERYTHING : []
    const result = await letsDo(PolicyDocument, principal, { action, resource, context }, rights)
    assert.equal(result, RESULTS[expected])
  })
}

test('the guard asks for exactly what its role lets it write', async () => {
  const script = readFileSync(new URL('../../deploy/emr/guard.sh', import.meta.url), 'utf8')
  const [, key] = script.match(/--key "\{\\"(\w+)\\"/)
  const [, names] = script.match(/--expression-attribute-names '(.+)'/)
  assert.ok(!script.includes('--return-values'))
  const attributes = [key, ...Object.values(JSON.parse(names))]
  const context = { 'dynamodb:LeadingKeys': ['claim/01J9/1/1'], 'dynamodb:Attributes': attributes }
  const resource = 'arn:aws:dynamodb:us-east-1:111122223333:table/prod-run'
  const question = { action: 'dynamodb:UpdateItem', resource, context }
  assert.equal(await mayDo(resources, 'EmrMachineRole', question), 'Allowed')
})

test('nothing is allowed on everything but what has no narrower form', () => {
  const broad = []
  for (const [id, { type, properties }] of Object.entries(resources)) {
    const documents = [properties.PolicyDocument, ...(properties.Policies ?? []).map((one) => one.PolicyDocument)]
    for (const statement of documents.filter(Boolean).flatMap((document) => document.Statement)) {
      const all = [statement.Resource].flat().includes('*')
      if (type.startsWith('AWS::IAM') && statement.Effect === 'Allow' && all) {
        broad.push(`${id}: ${[statement.Action].flat().join(' ')}${statement.Condition ? ' (conditions)' : ''}`)
      }
      if (statement.Effect === 'Allow') {
        assert.ok([statement.Action].flat().every((action) => !action.includes('*')), `${id} allows ${statement.Action}`)
      }
    }
  }
  assert.deepEqual(broad.sort(), [
    'ExecutionRole: ecr:GetAuthorizationToken',
    'ReaperRole: elasticmapreduce:ListClusters (conditions)',
    'TaskRole: elasticmapreduce:ListClusters (conditions)',
    'TaskRole: elasticmapreduce:RunJobFlow (conditions)',
    'WarehousePolicy: redshift-data:DescribeStatement redshift-data:GetStatementResult redshift-data:CancelStatement (conditions)'
  ])
})
