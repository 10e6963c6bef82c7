/** However the parameters are combined, nothing refers to what is not made. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resolved, template } from './template.js'

const NEEDED = { Deployment: 'prod', Vpc: 'vpc-1', Subnets: 'subnet-1,subnet-2' }
const SWITCHES = {
  Compute: template.Parameters.Compute.AllowedValues,
  Notifications: template.Parameters.Notifications.AllowedValues,
  Stream: template.Parameters.Stream.AllowedValues,
  Warehouse: template.Parameters.Warehouse.AllowedValues,
  Image: ['', 'sluicegate:0.1.0'],
  Replicas: ['0', '1'],
  ReapSchedule: ['', 'rate(30 minutes)'],
  AlertEmail: ['', 'team@example.com'],
  AssignPublicIp: template.Parameters.AssignPublicIp.AllowedValues,
  KdcPasswordSecretArn: ['', 'arn:aws:secretsmanager:us-east-1:111122223333:secret:kdc'],
  TaskPolicyArn: ['', 'arn:aws:iam::111122223333:policy/more']
}

function* combinations(switches) {
  const [first, ...rest] = switches
  if (first === undefined) return yield {}
  const [name, values] = first
  for (const value of values) for (const other of combinations(rest)) yield { [name]: value, ...other }
}

test('every combination of the switches resolves', () => {
  let count = 0
  for (const chosen of combinations(Object.entries(SWITCHES))) {
    const { resources } = resolved({ ...NEEDED, ...chosen })
    const has = (id) => id in resources
    const runs = chosen.Image !== ''
    assert.equal(has('Service'), runs && chosen.Compute === 'fargate' && chosen.Replicas !== '0')
    assert.equal(has('Hosts'), runs && chosen.Compute === 'ec2')
    assert.equal(has('ReaperTimer'), runs && chosen.Compute !== 'none' && chosen.ReapSchedule !== '')
    assert.equal(has('ObjectEvents'), chosen.Notifications === 'eventbridge')
    count += 1
  }
  assert.ok(count > 3000)
})

test('what is stored outlives the stack', () => {
  const stored = ['AWS::S3::Bucket', 'AWS::DynamoDB::Table', 'AWS::Logs::LogGroup', 'AWS::RedshiftServerless::Namespace']
  for (const [id, resource] of Object.entries(template.Resources)) {
    if (!stored.includes(resource.Type)) continue
    const isTable = resource.Type === 'AWS::DynamoDB::Table'
    // What a failed first deployment leaves would be in the next one's way.
    const deletion = isTable || id === 'Log' ? 'Retain' : 'RetainExceptOnCreate'
    assert.deepEqual([resource.DeletionPolicy, resource.UpdateReplacePolicy], [deletion, 'Retain'], id)
    if (!isTable) continue
    const { DeletionProtectionEnabled, PointInTimeRecoverySpecification, TimeToLiveSpecification } = resource.Properties
    assert.equal(DeletionProtectionEnabled, true, id)
    assert.equal(PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled, true, id)
    assert.deepEqual(TimeToLiveSpecification, { AttributeName: 'expires', Enabled: true }, id)
  }
})
