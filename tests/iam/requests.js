/**
 * The requests that were sent in tests, one JSON object a line, and the questions to
 * IAM that each raises. Not for who may do what.
 */
import { readFileSync } from 'node:fs'
import { ACCOUNT, REGION } from './template.js'

const arn = (service, rest) => `arn:aws:${service}:${REGION}:${ACCOUNT}:${rest}`
const MEMBERS = { Put: 'PutItem', Update: 'UpdateItem', ConditionCheck: 'ConditionCheckItem', Delete: 'DeleteItem' }
/** What the start tries without effect has this name in it. */
const TRIAL = /~rights/

/** The lines of a file. A trial shows that a right is there, not that it is needed. */
export function requests(file) {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => {
    const request = JSON.parse(line)
    const isTrial = TRIAL.test(request.body)
    return { ...request, isTrial, used: request.outcome === 'ok' && !isTrial }
  })
}

/** What a request to this service needs, as `action` on `resource` in a `context`. */
export function questions({ service, action, body }, deployment) {
  const of = (resource, context) => [{ action: `${service}:${action}`, resource, context }]
  if (service === 's3') return [object(action, body, deployment)]
  if (service === 'sns') {
    const topic = new URLSearchParams(body).get('TopicArn').split(':').at(-1)
    return of(arn('sns', `${deployment}-${topic}`))
  }
  const asked = JSON.parse(body)
  switch (service) {
    case 'dynamodb': {
      const table = (name) => arn('dynamodb', `table/${name}`)
      if (action === 'TransactWriteItems') {
        return asked.TransactItems.flatMap(Object.entries).map(([member, { TableName }]) => ({
          action: `dynamodb:${MEMBERS[member]}`,
          resource: table(TableName)
        }))
      }
      return of(table(asked.TableName) + (asked.IndexName ? `/index/${asked.IndexName}` : ''))
    }
    case 'sqs': {
      const name = (asked.QueueUrl ?? asked.QueueName).split('/').at(-1)
      return [{ action: `sqs:${action.replace(/Batch$/, '')}`, resource: arn('sqs', `${deployment}-${name}`) }]
    }
    case 'elasticmapreduce': {
      if (action === 'ListClusters') return of('*')
      if (action === 'RunJobFlow') return launch(asked)
      // Answers are not logged. One of others that is named like ours is asked about too, and
      // refused: the reaper then says that it could learn nothing of it.
      return of(CLUSTER, { 'elasticmapreduce:ResourceTag/sluicegate:deployment': deployment })
    }
    case 'redshift-data': {
      if (asked.SecretArn ?? asked.ClusterIdentifier) throw new Error('the template has no such warehouse')
      const resource = arn('redshift-serverless', 'workgroup/0f1e2d3c')
      if (action === 'BatchExecuteStatement') {
        return [...of(resource), { action: 'redshift-serverless:GetCredentials', resource }]
      }
      return of('*', { 'redshift-data:statement-owner-iam-userid': 'AROATASKROLE:older' })
    }
  }
  throw new Error(`${action} of ${service} was sent, which is not known here`)
}

const CLUSTER = arn('elasticmapreduce', 'cluster/j-1')

function launch(asked) {
  const context = Object.fromEntries(asked.Tags.map(({ Key, Value }) => [`aws:RequestTag/${Key}`, Value]))
  const pass = (role, service) => ({
    action: 'iam:PassRole',
    resource: `arn:aws:iam::${ACCOUNT}:role/${role}`,
    context: { 'iam:PassedToService': service }
  })
  return [
    { action: 'elasticmapreduce:RunJobFlow', resource: '*', context },
    { action: 'elasticmapreduce:AddTags', resource: CLUSTER, context },
    // There is no cluster yet that could bear a tag.
    ...['AutoTermination', 'ManagedScaling']
      .filter((policy) => asked[`${policy}Policy`] !== undefined)
      .map((policy) => ({ action: `elasticmapreduce:Put${policy}Policy`, resource: CLUSTER })),
    // Whatever the tests call these roles.
    ...(asked.ServiceRole ? [pass('EmrServiceRole', 'elasticmapreduce.amazonaws.com')] : []),
    ...(asked.JobFlowRole ? [pass('EmrMachineRole', 'ec2.amazonaws.com')] : [])
  ]
}

/** A request to S3 is known by its method and its URI; buckets are those of the simulator. */
function object(method, uri, deployment) {
  const url = new URL(uri, 'http://s3')
  const [bucket, ...key] = url.pathname.slice(1).split('/')
  const name = `arn:aws:s3:::${deployment}-${bucket}-${ACCOUNT}-${REGION}`
  if (method === 'GET' && url.searchParams.get('list-type') === '2') return { action: 's3:ListBucket', resource: name }
  const actions = { GET: 's3:GetObject', PUT: 's3:PutObject' }
  if (!(method in actions)) throw new Error(`${method} ${uri} was sent to S3, which is not known here`)
  return { action: actions[method], resource: `${name}/${key.join('/')}` }
}
