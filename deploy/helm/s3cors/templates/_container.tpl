{{/* The container, in a Deployment of its own or beside another's containers. */}}
{{- define "s3cors.container" -}}
name: s3cors
image: {{ printf "%s%s" .Values.image.repository (ternary (printf "@%s" .Values.image.digest) (printf ":%s" (default .Chart.AppVersion .Values.image.tag)) (ne .Values.image.digest "")) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - run
  - --config=/etc/s3cors/config/s3cors.toml
  {{- range .Values.args }}
  - {{ . | quote }}
  {{- end }}
env:
  # The port of the probes below. Listeners for clients are set in the config alone.
  - name: S3CORS_ADMIN
    value: {{ printf "%s:%d" .Values.address (int .Values.ports.admin) | quote }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: http
    containerPort: {{ int .Values.ports.http }}
  - name: admin
    containerPort: {{ int .Values.ports.admin }}
# Half a minute for the start, which takes milliseconds unless the node is busy.
startupProbe:
  httpGet: {path: /readyz, port: {{ int .Values.ports.admin }}}
  periodSeconds: 1
  failureThreshold: 30
# 503 as soon as the pod is stopped; no preStop hook is needed.
readinessProbe:
  httpGet: {path: /readyz, port: {{ int .Values.ports.admin }}}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: {{ int .Values.ports.admin }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  # Folders, never a subPath, which is not updated when the ConfigMap changes.
  - name: s3cors-config
    mountPath: /etc/s3cors/config
    readOnly: true
  {{- if include "s3cors.hasBuckets" . }}
  - name: s3cors-buckets
    mountPath: /etc/s3cors/buckets
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.extraContainerSpec }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volumes that the container mounts. */}}
{{- define "s3cors.volumes" -}}
- name: s3cors-config
  configMap:
    name: {{ include "s3cors.configMapName" . | quote }}
{{- if include "s3cors.hasBuckets" . }}
# One folder, whatever the number of ConfigMaps.
- name: s3cors-buckets
  projected:
    sources:
      {{- range include "s3cors.bucketsConfigMaps" . | fromJsonArray }}
      - configMap: {name: {{ . | quote }}}
      {{- end }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
A native sidecar: an init container that starts before the others and stops after them. For a
chart that has this one as its dependency `s3cors`, with `s3cors.standalone` false:

  metadata:
    labels:
      {{- include "s3cors.sidecarLabels" .Subcharts.s3cors | nindent 6 }}
  spec:
    terminationGracePeriodSeconds: {{ add 60 (include "s3cors.gracePeriod" .Subcharts.s3cors) }}
    initContainers:
      {{- include "s3cors.sidecar" .Subcharts.s3cors | nindent 6 }}
    volumes:
      {{- include "s3cors.volumes" .Subcharts.s3cors | nindent 6 }}

60 is how long the other containers may take to stop: the sidecar's stop begins after theirs.
*/}}
{{- define "s3cors.sidecar" -}}
- restartPolicy: Always
  {{- include "s3cors.container" . | nindent 2 }}
{{- end -}}

{{/* What `podMonitor` finds the sidecar's pods by. */}}
{{- define "s3cors.sidecarLabels" -}}
s3cors/sidecar: {{ .Release.Name | quote }}
{{- end -}}
