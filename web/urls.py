"""The pages for people. All of them are for who may use the admin."""

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView

from cachemgr.clean_page import clean_page
from cachemgr.pages import settings_page
from web.chat_page import chat_page
from web.jobs_page import act_on_job, jobs_page

_JOB_ACTION = r"^jobs/(?P<pk>[0-9]{1,18})/(?P<action>cancel|retry|repair|undo)$"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="settings-page"), name="home"),
    path("chat", admin.site.admin_view(chat_page), name="chat-page"),
    path("jobs", admin.site.admin_view(jobs_page), name="jobs-page"),
    re_path(_JOB_ACTION, admin.site.admin_view(act_on_job), name="job-act"),
    path("settings", admin.site.admin_view(settings_page), name="settings-page"),
    path("settings/clean", admin.site.admin_view(clean_page), name="clean-page"),
]
