/**
 * Reads the CloudFormation template and resolves its intrinsic functions, as
 * CloudFormation would for one set of parameters in a made-up account. Not for
 * checking the template: that is cfn-lint's, and the deployment's.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

export const ACCOUNT = '111122223333'
export const REGION = 'us-east-1'
const FILE = new URL('../../deploy/cloudformation/sluicegate.yaml', import.meta.url)

const PSEUDO = {
  'AWS::AccountId': ACCOUNT,
  'AWS::Region': REGION,
  'AWS::Partition': 'aws',
  'AWS::NoValue': undefined
}

/** The short forms, `!Ref X`, as the long ones, `{ Ref: X }`. */
const SHORT = ['Ref', 'Condition', 'GetAtt', 'Sub', 'Join', 'If', 'Equals', 'Not', 'And', 'Or', 'Base64'].flatMap(
  (name) => {
    const long = ['Ref', 'Condition'].includes(name) ? name : `Fn::${name}`
    const tag = `!${name}`
    return [
      { tag, resolve: (text) => ({ [long]: text }) },
      { tag, collection: 'seq', resolve: (list) => ({ [long]: list.toJSON() }) }
    ]
  }
)

export const template = parse(readFileSync(fileURLToPath(FILE), 'utf8'), {
  customTags: SHORT,
  version: '1.2'
})

const arn = (service, rest) => `arn:aws:${service}:${REGION}:${ACCOUNT}:${rest}`

/** What `Ref` and `Fn::GetAtt` give for each type of resource that is asked for. */
const VALUES = {
  'AWS::S3::Bucket': (id, p) => ({ Ref: p.BucketName, Arn: `arn:aws:s3:::${p.BucketName}` }),
  'AWS::SQS::Queue': (id, p) => ({
    Ref: `https://sqs.${REGION}.amazonaws.com/${ACCOUNT}/${p.QueueName}`,
    Arn: arn('sqs', p.QueueName),
    QueueName: p.QueueName
  }),
  'AWS::SNS::Topic': (id, p) => ({ Ref: arn('sns', p.TopicName), TopicName: p.TopicName }),
  'AWS::DynamoDB::Table': (id, p) => ({ Ref: p.TableName, Arn: arn('dynamodb', `table/${p.TableName}`) }),
  'AWS::IAM::Role': (id) => ({ Ref: id, Arn: `arn:aws:iam::${ACCOUNT}:role/${id}`, RoleId: `AROA${id.toUpperCase()}` }),
  'AWS::IAM::Policy': (id, p) => ({ Ref: p.PolicyName }),
  'AWS::IAM::ManagedPolicy': (id) => ({ Ref: `arn:aws:iam::${ACCOUNT}:policy/${id}` }),
  'AWS::IAM::InstanceProfile': (id) => ({ Ref: id, Arn: `arn:aws:iam::${ACCOUNT}:instance-profile/${id}` }),
  'AWS::Events::Rule': (id) => ({ Ref: id, Arn: arn('events', `rule/${id}`) }),
  'AWS::Logs::LogGroup': (id, p) => ({ Ref: p.LogGroupName, Arn: `${arn('logs', `log-group:${p.LogGroupName}`)}:*` }),
  'AWS::Logs::LogStream': (id, p) => ({ Ref: p.LogStreamName }),
  'AWS::ECS::Cluster': (id, p) => ({ Ref: p.ClusterName, Arn: arn('ecs', `cluster/${p.ClusterName}`) }),
  'AWS::ECS::TaskDefinition': (id, p) => ({ Ref: arn('ecs', `task-definition/${p.Family}:1`) }),
  'AWS::EC2::SecurityGroup': (id) => ({ Ref: `sg-${id}`, GroupId: `sg-${id}` }),
  'AWS::EC2::LaunchTemplate': (id) => ({ Ref: `lt-${id}`, LatestVersionNumber: '1' }),
  'AWS::Kinesis::Stream': (id, p) => ({ Ref: p.Name, Arn: arn('kinesis', `stream/${p.Name}`) }),
  'AWS::RedshiftServerless::Namespace': (id, p) => ({ Ref: p.NamespaceName }),
  'AWS::RedshiftServerless::Workgroup': (id, p) => ({
    Ref: p.WorkgroupName,
    'Workgroup.WorkgroupArn': arn('redshift-serverless', 'workgroup/0f1e2d3c')
  })
}

/**
 * The resources that come into being with these parameters, every function in
 * them resolved. Parameters without a default must be given.
 */
export function resolved(parameters) {
  const { Parameters, Conditions, Resources, Outputs } = template
  const unknown = Object.keys(parameters).filter((name) => !(name in Parameters))
  if (unknown.length > 0) throw new Error(`the template has no parameter ${unknown.join(', ')}`)
  const given = { ...PSEUDO }
  for (const [name, { Default, Type }] of Object.entries(Parameters)) {
    const value = parameters[name] ?? Default
    if (value === undefined) throw new Error(`parameter ${name} has no default and is not given`)
    given[name] = Type.startsWith('List') ? String(value).split(',') : String(value)
  }

  const holds = (condition) => {
    if (typeof condition === 'string') return holds(Conditions[condition])
    const [name, of] = Object.entries(condition)[0]
    switch (name) {
      case 'Condition':
        return holds(of)
      case 'Fn::Equals':
        return String(value(of[0])) === String(value(of[1]))
      case 'Fn::Not':
        return !holds(of[0])
      case 'Fn::And':
        return of.every(holds)
      case 'Fn::Or':
        return of.some(holds)
      default:
        throw new Error(`no condition: ${name}`)
    }
  }

  const attribute = (id, name) => {
    const resource = Resources[id]
    if (resource === undefined) throw new Error(`there is no resource ${id}`)
    if (resource.Condition && !holds(resource.Condition)) {
      throw new Error(`${id} is not made with these parameters, but something refers to it`)
    }
    const values = VALUES[resource.Type]
    const found = values?.(id, value(resource.Properties))[name]
    if (found === undefined) throw new Error(`${resource.Type} has no ${name} in template.js`)
    return found
  }

  const named = (name) => (name in given ? given[name] : attribute(name, 'Ref'))

  const substituted = (text, extra = {}) =>
    text.replaceAll(/\$\{(!?)([^}]+)\}/g, (whole, literal, name) => {
      if (literal) return `\${${name}}`
      if (name in extra) return value(extra[name])
      const [id, ...rest] = name.split('.')
      return rest.length > 0 ? attribute(id, rest.join('.')) : named(name)
    })

  const value = (node) => {
    if (Array.isArray(node)) return node.map(value).filter((item) => item !== undefined)
    if (node === null || typeof node !== 'object') return node
    const [name, of] = Object.entries(node)[0] ?? []
    switch (name) {
      case 'Ref':
        return named(of)
      case 'Fn::GetAtt': {
        const [id, ...rest] = of.split('.')
        return attribute(id, rest.join('.'))
      }
      case 'Fn::Sub':
        return Array.isArray(of) ? substituted(of[0], of[1]) : substituted(of)
      case 'Fn::Join':
        return value(of[1]).join(of[0])
      case 'Fn::If':
        return value(of[holds(of[0]) ? 1 : 2])
      case 'Fn::Base64':
        return value(of)
    }
    const entries = Object.entries(node).map(([key, inner]) => [key, value(inner)])
    return Object.fromEntries(entries.filter(([, inner]) => inner !== undefined))
  }

  const made = (all) => Object.entries(all).filter(([, one]) => !one.Condition || holds(one.Condition))
  return {
    resources: Object.fromEntries(
      made(Resources).map(([id, one]) => [id, { type: one.Type, properties: value(one.Properties) }])
    ),
    outputs: Object.fromEntries(made(Outputs).map(([id, one]) => [id, value(one.Value)]))
  }
}

/** All policies of a role or of a managed policy, by name. */
export function policies(resources, id) {
  const { type, properties } = resources[id]
  if (type === 'AWS::IAM::ManagedPolicy') return [{ name: id, policy: properties.PolicyDocument }]
  const inline = (properties.Policies ?? []).map((one) => ({ name: one.PolicyName, policy: one.PolicyDocument }))
  const attached = Object.values(resources)
    .filter((one) => one.type === 'AWS::IAM::Policy' && one.properties.Roles.includes(id))
    .map(({ properties: one }) => ({ name: one.PolicyName, policy: one.PolicyDocument }))
  return [...inline, ...attached]
}
